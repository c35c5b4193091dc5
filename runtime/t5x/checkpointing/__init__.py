"""Checkpoints on disk: when they are written, how they are read, and the directory that they lie in."""
