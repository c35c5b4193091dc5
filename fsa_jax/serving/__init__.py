"""Prediction with students, and export to Hugging Face and CTranslate2."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fsa_jax.serving.predictor import Predictor as Predictor


def __getattr__(name: str) -> Any:
    # Imported at the first use, because Predictor needs numpy, sentencepiece and JAX or CTranslate2, and the import of
    # this package must not.
    if name == "Predictor":
        from fsa_jax.serving.predictor import Predictor

        return Predictor
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
