"""What the networks share: layers other than attention, stacks of layers, and the checks of a configuration.

Parameters are float32, with logical axes for partitioning.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial, reduce
from operator import mul
from typing import Any, cast

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.linen.partitioning import param_with_axes, scan_with_axes, with_sharding_constraint
from jaxtyping import Array, Float, Int, Num

from fsa_base.errors import SettingError, require_choice
from fsa_base.networks.causal_attention import in_causal_blocks

ACTIVATIONS = {
    "relu": jax.nn.relu,
    "gelu": jax.nn.gelu,  # the tanh approximation, as in T5 v1.1
    "silu": jax.nn.silu,
    "linear": lambda x: x,
}
"""Activation functions by the names that ``mlp_activations`` of a configuration may have."""

EMBEDDING_GRADIENTS = ("scatter", "one_hot")
"""Ways to sum the gradients of an embedding table; see :func:`lookup`."""

ATTENTION_IMPLEMENTATIONS = ("plain", "blocks", "recompute", "cudnn")
"""Ways to compute attention in training: all weights at once, causal attention in blocks
(:func:`fsa_base.networks.causal_attention.in_causal_blocks`), weights that are computed again in the backward pass, and
cuDNN's kernel (:func:`fsa_base.networks.fused_attention.cudnn_attention`)."""

_VOCABULARY_BLOCK = 128
"""Ids of which the most likely one is found together; vocabularies are usually padded to a multiple of this."""

kernel_init = nn.initializers.variance_scaling(1.0, "fan_in", "truncated_normal")
embedding_init = nn.initializers.normal(stddev=1.0)


Head = Callable[[Float[Array, "batch length embed"], Float[Array, "embed vocab"]], Any]
"""Computes the result of a network from the output of its last layer and its output matrix, in place of logits; so a
loss need not have all logits in memory."""


@dataclass(frozen=True)
class Mode:
    """The mode of a call of a network. It is static: known when the call is compiled.

    Args:
      enable_dropout: whether dropout is used (training).
      decode: whether to decode one token per row, with keys and values of earlier tokens in the ``cache`` collection.
      prefill: whether to read whole prompts and store their keys and values in the cache.
      causal: whether no token attends to a later one. The masks say the same; attention skips such keys.
    """

    enable_dropout: bool = False
    decode: bool = False
    prefill: bool = False
    causal: bool = False


def check_config(config: Any) -> None:
    """Checks the fields that all transformer configurations of this project have.

    Raises:
      SettingError: a value that no model can have.
    """
    kind = type(config).__name__
    for name, value in vars(config).items():
        counts = name.startswith("num_") or name in ("vocab_size", "emb_dim", "head_dim", "mlp_dim")
        if counts and (not isinstance(value, int) or value < 1):
            raise SettingError(
                f"{kind}.{name}", expected="a positive integer", found=repr(value), fix=f"set {kind}.{name}"
            )
    unknown = [name for name in config.mlp_activations if name not in ACTIVATIONS]
    if unknown or not config.mlp_activations:
        raise SettingError(
            f"{kind}.mlp_activations",
            expected=f"one or more of {', '.join(ACTIVATIONS)}",
            found=repr(config.mlp_activations),
            fix="('relu',) for T5 v1.0, ('gelu', 'linear') for T5 v1.1",
        )
    if not 0.0 <= config.dropout_rate < 1.0:
        raise SettingError(
            f"{kind}.dropout_rate",
            expected="a number from 0 to below 1",
            found=repr(config.dropout_rate),
            fix="set the macro DROPOUT_RATE, e.g. 0.0 for pretraining, 0.1 for fine-tuning",
        )
    check_speed(config)


def check_speed(config: Any) -> None:
    """Checks the fields of a configuration that change the speed of training, but not what is computed.

    Raises:
      SettingError: an unknown choice, or one that the dtype of the activations rules out.
    """
    kind = type(config).__name__
    require_choice(f"{kind}.embedding_gradient", config.embedding_gradient, EMBEDDING_GRADIENTS)
    setting = f"{kind}.attention_implementation"
    require_choice(setting, config.attention_implementation, ATTENTION_IMPLEMENTATIONS)
    if config.attention_implementation == "cudnn" and config.dtype != jnp.bfloat16:
        raise SettingError(
            setting,
            expected=f"'plain' or 'recompute' for activations in {config.dtype}; 'cudnn' is for bfloat16",
            found="'cudnn'",
            fix=f"--gin.{setting}=\"'plain'\", or --gin.{kind}.dtype=\"'bfloat16'\"",
        )


def attention_as(implementation: str, attend: Callable[..., Array], *, causal: bool) -> Callable[..., Array]:
    """``attend``, in blocks or recomputed in the backward pass as ``implementation`` of the configuration says.

    Args:
      implementation: one of ``ATTENTION_IMPLEMENTATIONS``; cuDNN's kernel is chosen elsewhere.
      attend: as of :func:`fsa_base.networks.causal_attention.in_causal_blocks`.
      causal: whether no query attends to a later key, and there is no cache.
    """
    if causal and implementation != "plain":
        attend = partial(in_causal_blocks, attend)
    return jax.checkpoint(attend) if implementation == "recompute" else attend


def constrain(x: Array, *axes: str) -> Array:
    """Tells the partitioner the logical axes of an activation; has no effect outside a mesh."""
    return with_sharding_constraint(x, jax.sharding.PartitionSpec(*axes))


class LayerNorm(nn.Module):
    """T5's layer norm: divides by the root mean square, without subtracting the mean and without bias, in float32."""

    dtype: Any = jnp.float32
    epsilon: float = 1e-6

    @nn.compact
    def __call__(self, x: Float[Array, "*batch embed"]) -> Float[Array, "*batch embed"]:
        x = x.astype(jnp.float32)
        mean_square = jnp.mean(jnp.square(x), axis=-1, keepdims=True)
        normed = (x * jax.lax.rsqrt(mean_square + self.epsilon)).astype(self.dtype)
        scale = param_with_axes("scale", nn.initializers.ones, (x.shape[-1],), jnp.float32, axes=("embed",))
        return normed * scale.astype(self.dtype).reshape((1,) * (x.ndim - 1) + (-1,))


class Linear(nn.Module):
    """A linear layer without bias: a matrix ``kernel`` with logical axes ``axes``."""

    features: int
    axes: tuple[str, str]
    dtype: Any = jnp.float32
    kernel_init: Callable = kernel_init

    @nn.compact
    def __call__(self, x: Float[Array, "*batch inputs"], multiply: Callable[[Array, Array], Any] = jnp.dot) -> Any:
        """The product (*batch, features), or what ``multiply`` makes of its two operands."""
        kernel = param_with_axes("kernel", self.kernel_init, (x.shape[-1], self.features), jnp.float32, axes=self.axes)
        return multiply(x.astype(self.dtype), kernel.astype(self.dtype))


class Embedding(nn.Module):
    """Token embeddings, which may also serve as the output projection (``attend``)."""

    num_embeddings: int
    features: int
    dtype: Any = jnp.float32
    gradient: str = "scatter"

    def setup(self):
        self.embedding = param_with_axes(
            "embedding", embedding_init, (self.num_embeddings, self.features), jnp.float32, axes=("vocab", "embed")
        )

    def __call__(self, ids: Num[Array, "batch length"]) -> Float[Array, "batch length embed"]:
        """Rows of the table; zeros for ids outside of it. Ids may be floats, because engines initialise with floats."""
        rows: Array = lookup(self.embedding, ids.astype(jnp.int32), self.dtype, self.gradient)
        return constrain(rows, "batch", "length", "embed")

    def attend(self, x: Float[Array, "batch length embed"], dtype: Any = jnp.float32, multiply: Head = jnp.dot) -> Any:
        """Dot products in ``dtype`` with every row, (batch, length, vocab), or what ``multiply`` makes of the two."""
        return multiply(x.astype(dtype), self.embedding.T.astype(dtype))


@partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def lookup(
    table: Float[Array, "vocab embed"], ids: Int[Array, "batch length"], dtype: Any, gradient: str
) -> Float[Array, "batch length embed"]:
    """Rows of a float32 table in ``dtype``; zeros for ids outside of it.

    The gradients of all occurrences of a token are summed in float32. ``gradient`` says how: ``"scatter"`` adds them to
    the table one by one, without those that are zero, such as all of padding; ``"one_hot"`` multiplies them by the
    one-hot matrix of the ids, which is more work, but a matrix product. XLA's scatter waits where tokens repeat: on
    GPUs with JAX 0.10 it is a loop that retries (jax-ml/jax#38806).
    """
    rows = jnp.take(table, ids, axis=0, mode="clip")
    inside = (ids >= 0) & (ids < table.shape[0])
    return jnp.where(inside[..., None], rows, 0.0).astype(dtype)


def _lookup_forward(table: Array, ids: Array, dtype: Any, gradient: str) -> tuple[Array, tuple[Array, Array]]:
    return lookup(table, ids, dtype, gradient), (table, ids)


def _lookup_backward(dtype: Any, gradient: str, residuals: tuple[Array, Array], rows: Array) -> tuple[Array, None]:
    table, ids = residuals
    if gradient == "one_hot":
        # The rows have dtype, so the products are exact; HIGHEST keeps float32 from being rounded to TF32.
        one_hot = jax.nn.one_hot(ids, table.shape[0], dtype=rows.dtype)
        product = jnp.einsum(
            "blv,ble->ve", one_hot, rows, precision=jax.lax.Precision.HIGHEST, preferred_element_type=table.dtype
        )
        return product, None
    counts = (ids >= 0) & jnp.any(rows != 0, axis=-1)
    ids = jnp.where(counts, ids, table.shape[0])
    return jnp.zeros_like(table).at[ids].add(rows.astype(table.dtype), mode="drop"), None


lookup.defvjp(_lookup_forward, _lookup_backward)


class Mlp(nn.Module):
    """T5's feed-forward layer: ``wi`` for one activation, or the product of ``wi_0``, ``wi_1`` ...; then ``wo``."""

    mlp_dim: int
    activations: Sequence[str]
    dropout_rate: float
    enable_dropout: bool
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "batch length embed"]) -> Float[Array, "batch length embed"]:
        branches = []
        for i, activation in enumerate(self.activations):
            name = "wi" if len(self.activations) == 1 else f"wi_{i}"
            hidden = Linear(self.mlp_dim, ("embed", "mlp"), self.dtype, name=name)(x)
            branches.append(ACTIVATIONS[activation](hidden))
        hidden = dropout(reduce(mul, branches), self.dropout_rate, self.enable_dropout)
        hidden = constrain(hidden, "batch", "length", "mlp")
        return Linear(x.shape[-1], ("mlp", "embed"), self.dtype, name="wo")(hidden)


def dropout(
    x: Float[Array, "batch length features"],
    rate: float,
    enabled: bool,
    *,
    over_length: bool = True,
    name: str | None = None,
) -> Float[Array, "batch length features"]:
    """Dropout, for use in a compact method. With ``over_length`` a feature is dropped at all positions of a row.

    The name of the module (by default ``Dropout_<n>``) decides its random numbers.
    """
    return nn.Dropout(rate, broadcast_dims=(-2,) if over_length else (), name=name)(x, deterministic=not enabled)


def logits_dtype(config: Any) -> Any:
    """The dtype of logits: float32, or that of the activations with ``logits_in_dtype``."""
    return config.dtype if config.logits_in_dtype else jnp.float32


def output_logits(config: Any, embedding: Embedding, x: Float[Array, "batch length embed"], head: Head | None) -> Any:
    """Logits (batch, length, vocab), for use in a compact method, or the result of ``head``.

    Args:
      config: configuration; this function uses ``vocab_size``, ``logits_via_embedding`` and those of ``logits_dtype``.
      embedding: the token embeddings. With ``logits_via_embedding`` the logits are products with their table, scaled
        as in T5 v1.0; otherwise with a matrix ``logits_dense``.
      x: output of the last layer.
      head: computes the result in place of logits, if not None.
    """
    dtype = logits_dtype(config)
    if not config.logits_via_embedding:
        dense = Linear(config.vocab_size, ("embed", "vocab"), dtype, name="logits_dense")
        return constrain(dense(x), "batch", "length", "vocab") if head is None else dense(x, head)
    scale = math.sqrt(x.shape[-1])
    if head is None and dtype == jnp.float32:
        return constrain(embedding.attend(x) / scale, "batch", "length", "vocab")
    # Logits in a narrow dtype would be rounded twice if they were scaled.
    return embedding.attend(x.astype(jnp.float32) / scale, dtype, head or jnp.dot)


def most_likely(logits: Float[Array, "rows vocab"]) -> tuple[Int[Array, "rows 1"], Float[Array, "rows 1"]]:
    """The most likely id, the first of equal ones, and its log-probability.

    On a CPU, argmax and log_softmax of whole rows take five times as long.
    """
    blocks = jnp.pad(logits, ((0, 0), (0, -logits.shape[-1] % _VOCABULARY_BLOCK)), constant_values=-jnp.inf)
    blocks = blocks.reshape(logits.shape[0], -1, _VOCABULARY_BLOCK)
    highest = jnp.max(blocks, axis=-1)
    block = jnp.argmax(highest, axis=-1)
    place = jnp.argmax(jnp.take_along_axis(blocks, block[:, None, None], axis=1)[:, 0], axis=-1)
    others = jnp.exp(logits - jnp.max(highest, axis=-1, keepdims=True))
    return (block * _VOCABULARY_BLOCK + place).astype(jnp.int32)[:, None], -jnp.log(
        jnp.sum(others, axis=-1, keepdims=True)
    )


def apply_layers(
    layer: type[nn.Module], config: Any, mode: Mode, count: int, x: Float[Array, "batch length embed"], *context: Any
) -> Float[Array, "batch length embed"]:
    """Applies ``count`` layers in a compact method: ``layers_0``, ``layers_1`` ..., or one scanned ``layers``.

    Args:
      layer: module class that takes ``(config, mode)``, is called with ``(x, *context)`` and returns ``(x, None)``.
      config: configuration; this function uses its ``scan_layers`` and ``remat``.
      mode: mode of the call, passed to the layer.
      count: number of layers.
      x: input of the first layer.
      *context: masks and biases, passed to every layer.

    Returns:
      The output of the last layer.
    """
    if config.remat:
        layer = nn.remat(layer, prevent_cse=not config.scan_layers)
    if config.scan_layers:
        layer = scan_with_axes(
            layer,
            variable_axes={"params": 0, "cache": 0, "prefix": 0},
            split_rngs={"params": True, "dropout": True},
            in_axes=cast(Any, nn.broadcast),
            length=count,
            axis_name="layers",
        )
        return layer(config, mode, name="layers")(x, *context)[0]
    for i in range(count):
        x, _ = layer(config, mode, name=f"layers_{i}")(x, *context)
    return x
