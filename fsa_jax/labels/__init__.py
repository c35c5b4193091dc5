"""Labels of users and of other projects: readers of their formats, checks, splits, conversion. Pure Python."""
