"""The networks of the students in Flax, and the layers that they share."""
