"""Postprocessing and metrics of the FSA tasks, which SeqIO's evaluator calls; pure Python."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fsa_jax.evaluation.released_rule import tuple_f1
from fsa_jax.text.pairs import Codec

Pairs = list[tuple[str, ...]]
"""Pairs, or triples or quadruples."""


def read_pairs(codec: Codec, output: str, example: Mapping[str, Any], is_target: bool) -> Pairs:
    """Pairs of a decoded output or of a target.

    For a target, the original text of the example is used, because tokenisation loses rare characters.
    """
    text = _text(example["targets_pretokenized"]) if is_target else output
    return codec.decode(text, _text(example["inputs_pretokenized"]))


def pair_scores(targets: Sequence[Pairs], predictions: Sequence[Pairs]) -> dict[str, float]:
    """Micro ``precision``, ``recall`` and ``f1`` in percent, by the released scoring rule."""
    return tuple_f1(targets, predictions).percent()


def _text(value: Any) -> str:
    value = value.item() if hasattr(value, "item") else value
    return value.decode("utf-8") if isinstance(value, bytes) else str(value)
