"""An independent training engine with the module paths, gin names and checkpoints of T5X. Not Google's T5X."""

from fsa_jax.engine import installed_engine

__version__ = "0.1.0"

installed_engine()  # An error where upstream T5X is installed as well.
