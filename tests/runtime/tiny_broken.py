"""Training data that breaks on process 1 alone, after a few batches; gin files name it."""

from __future__ import annotations

from typing import Any

import jax

from fsa_base.errors import DataError
from t5x.data import datasets


class _Breaking:
    def __init__(self, dataset: Any) -> None:
        self._dataset, self.element_spec = dataset, dataset.element_spec

    def __iter__(self):
        for number, batch in enumerate(self._dataset):
            if number == 3:
                raise DataError("reviews.jsonl:7", expected="a text", found="a number", fix="correct that line")
            yield batch


def get_dataset(*args: Any, **kwargs: Any) -> Any:
    """``datasets.get_dataset``, whose fourth batch raises on process 1."""
    dataset = datasets.get_dataset(*args, **kwargs)
    return _Breaking(dataset) if jax.process_index() == 1 else dataset
