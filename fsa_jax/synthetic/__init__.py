"""A generated world of reviews with known opinions, and an oracle teacher."""
