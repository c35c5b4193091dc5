"""fsa_jax: distil a large language model's fine-grained sentiment understanding into a small student.

What the commands do is here as functions, which print nothing (docs/library.md)::

    import fsa_jax

    fsa_jax.sample("reviews.csv", "sampled.parquet", size=1000)
    fsa_jax.teach("sampled.parquet", "generations", "gpt-4o-mini", endpoint="https://api.openai.com/v1")
    fsa_jax.check("generations", "checked", "sampled.parquet")
    fsa_jax.build_corpus("checked", "data/corpus")
    fsa_jax.Predictor("runs/student/checkpoint_400").predict(["The tea was great."])

Importing the package imports neither JAX nor TensorFlow nor any of these functions; each is imported at its first use.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fsa_jax.checking.assess import CheckSettings as CheckSettings
    from fsa_jax.checking.run_check import check as check
    from fsa_jax.corpus.selection import Selection as Selection
    from fsa_jax.data.build_corpus import build_corpus as build_corpus
    from fsa_jax.reviews.run_sample import sample_reviews as sample  # noqa: F401
    from fsa_jax.serving.predictor import Predictor as Predictor
    from fsa_jax.teacher.teach import teach as teach

__version__ = "0.1.0"

_PLACES = {
    "CheckSettings": "fsa_jax.checking.assess:CheckSettings",
    "Predictor": "fsa_jax.serving.predictor:Predictor",
    "Selection": "fsa_jax.corpus.selection:Selection",
    "build_corpus": "fsa_jax.data.build_corpus:build_corpus",
    "check": "fsa_jax.checking.run_check:check",
    "sample": "fsa_jax.reviews.run_sample:sample_reviews",
    "teach": "fsa_jax.teacher.teach:teach",
}
"""Module and name of each public function or class."""


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, _, inner = _PLACES[name].partition(":")
    return getattr(importlib.import_module(module), inner)


def __dir__() -> list[str]:
    return sorted([*globals(), *_PLACES])
