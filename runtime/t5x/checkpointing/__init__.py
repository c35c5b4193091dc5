"""Checkpoints on disk: when and how they are written, deleted and read."""
