"""T5 v1.0 and v1.1 in Flax, for both engines."""

from fsa_jax.models.t5.config import T5Config
from fsa_jax.models.t5.network import Transformer

__all__ = ["T5Config", "Transformer"]
