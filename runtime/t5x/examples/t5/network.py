"""T5, under the name that gin files give it: the student's network."""

from fsa_base.networks.t5.config import T5Config
from fsa_base.networks.t5.network import Transformer

__all__ = ["T5Config", "Transformer"]
