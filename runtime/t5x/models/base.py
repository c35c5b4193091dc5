"""The interface of models that the engine uses."""

from __future__ import annotations

import abc
from collections.abc import Mapping
from typing import Any, Protocol

from jaxtyping import Array, Int

from t5x.optimizers import OptimizerDef

Batch = Mapping[str, Any]
"""Arrays by feature: NumPy's or JAX's."""

Params = Any


class Vocabulary(Protocol):
    """The attributes of a vocabulary that the engine reads; ``seqio.Vocabulary`` has them."""

    @property
    def eos_id(self) -> int | None: ...

    @property
    def vocab_size(self) -> int: ...


class BaseModel(abc.ABC):
    """Base class of models: what the trainer and the commands call."""

    FEATURE_CONVERTER_CLS: Any
    input_vocabulary: Vocabulary
    output_vocabulary: Vocabulary

    def __init__(self, optimizer_def: OptimizerDef | None) -> None:
        self.optimizer_def = optimizer_def

    @abc.abstractmethod
    def loss_fn(self, params: Params, batch: Batch, dropout_rng: Array | None, *args: Any, **kwargs: Any) -> Any:
        """Returns the loss and its metrics; see :meth:`BaseTransformerModel.loss_fn`."""

    def eval_fn(self, params: Params, batch: Batch, flax_mutables: Any = None) -> Any:
        """Returns the same as :meth:`loss_fn`, without dropout."""
        if flax_mutables:
            return self.loss_fn(params, batch, None, flax_mutables)
        return self.loss_fn(params, batch, None)

    def predict_batch(self, params: Params, batch: Batch, rng: Array | None = None) -> Int[Array, "batch length"]:
        """Returns the decoded ids; see :meth:`predict_batch_with_aux`."""
        return self.predict_batch_with_aux(params, batch, rng=rng)[0]

    @abc.abstractmethod
    def predict_batch_with_aux(
        self, params: Params, batch: Batch, rng: Array | None = None, **kwargs: Any
    ) -> tuple[Array, dict[str, Array]]:
        """Returns decoded ids and ``{"scores": …}``."""

    @abc.abstractmethod
    def score_batch(self, params: Params, batch: Batch, return_intermediates: bool = False) -> Any:
        """Returns the log-likelihood of every example's targets."""

    @abc.abstractmethod
    def get_initial_variables(
        self, rng: Array, input_shapes: Mapping[str, Any], input_types: Mapping[str, Any] | None = None
    ) -> Mapping[str, Any]:
        """Returns the result of ``module.init``: ``params``, ``params_axes``, and other collections of the network."""
