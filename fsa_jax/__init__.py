"""fsa_jax: distil a large language model's fine-grained sentiment understanding into a small student.

Importing the package imports neither JAX nor TensorFlow; each stage imports what it needs.
"""

__version__ = "0.1.0"
