"""An independent training engine with the module paths, gin names and checkpoints of T5X. Not Google's T5X."""

__version__ = "0.1.0"
