"""Several processes that make one run: how they find each other, agree, and end together."""
