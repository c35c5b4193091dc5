"""T5 v1.0 and v1.1 in Flax, for both engines."""

from fsa_base.networks.t5.network import T5Config, Transformer

__all__ = ["T5Config", "Transformer"]
