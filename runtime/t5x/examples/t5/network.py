"""T5, under the name that gin files give it: the student's network."""

from fsa_base.networks.t5.network import T5Config, Transformer

__all__ = ["T5Config", "Transformer"]
