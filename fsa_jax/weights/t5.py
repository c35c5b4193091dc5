"""Conversion of T5 v1.0, v1.1 and Flan-T5 between Hugging Face's format and this project's."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from fsa_base.errors import CheckpointError
from fsa_base.networks.t5.network import T5Config
from fsa_jax.weights.hf_files import Tensor
from fsa_jax.weights.hf_mapping import MOST_LAYERS, ROWS_MULTIPLE, Family, Leaf, count_of, flag_of, number_of

"""Number of rows of a T5 embedding; the authors' students have 32,101: the ids of the vocabulary and the newline."""
_EMBEDDING, _HEAD = "shared.weight", "lm_head.weight"
_BUCKETS, _MAX_DISTANCE, _EPSILON = 32, 128, 1e-6
_GATED = {"gated-gelu": ("gelu", "linear"), "gated-silu": ("silu", "linear"), "relu": ("relu",)}


def _require(config: Mapping[str, Any], key: str, default: Any, supported: Any) -> None:
    if config.get(key, default) != supported:
        raise CheckpointError(
            f"config.json: {key}",
            expected=repr(supported),
            found=repr(config.get(key)),
            fix="import a T5 v1.0, T5 v1.1 or Flan-T5 model",
        )


def config_from_hf(config: Mapping[str, Any], tensors: Mapping[str, Tensor] | None = None) -> T5Config:
    """The configuration of a model from the content of its config.json; the embedding is padded to 128 rows' multiples.

    If ``tensors`` are given, the statement of config.json about the output projection is checked against them.

    Raises:
      CheckpointError: config.json lacks a key, or needs a feature that this network lacks.
    """
    _require(config, "relative_attention_num_buckets", _BUCKETS, _BUCKETS)
    _require(config, "relative_attention_max_distance", _MAX_DISTANCE, _MAX_DISTANCE)
    _require(config, "layer_norm_epsilon", _EPSILON, _EPSILON)
    projection = config.get("feed_forward_proj", "relu")
    if not isinstance(projection, str) or projection not in _GATED:
        raise CheckpointError(
            "config.json: feed_forward_proj",
            expected=f"one of {', '.join(_GATED)}",
            found=repr(projection),
            fix="import a T5 v1.0, T5 v1.1 or Flan-T5 model",
        )
    layers = count_of(config, "num_layers", MOST_LAYERS)
    return T5Config(
        vocab_size=-(-count_of(config, "vocab_size") // ROWS_MULTIPLE) * ROWS_MULTIPLE,
        emb_dim=count_of(config, "d_model"),
        num_heads=count_of(config, "num_heads"),
        num_encoder_layers=layers,
        num_decoder_layers=count_of(config, "num_decoder_layers", MOST_LAYERS, default=layers),
        head_dim=count_of(config, "d_kv"),
        mlp_dim=count_of(config, "d_ff"),
        mlp_activations=_GATED[projection],
        dropout_rate=number_of(config, "dropout_rate", 0.1) if config.get("dropout_rate") != 0 else 0.0,
        logits_via_embedding=_tied(config, tensors),
    )


def _is_scaled(config: Mapping[str, Any]) -> bool:
    """Whether the logits come from the scaled embedding (v1.0) and not from a separate, unscaled matrix (v1.1).

    transformers 4 expresses this with tie_word_embeddings. transformers 5 always writes tie_word_embeddings as true,
    and expresses it with scale_decoder_outputs.
    """
    return flag_of(config, "scale_decoder_outputs", flag_of(config, "tie_word_embeddings", True))


def _is_copied(config: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> bool:
    """Whether the output matrix of a v1.1 model equals the embedding and is not in the file.

    transformers 5 ties the two matrices of new models, and saves only one.
    """
    tied = not _is_scaled(config) and flag_of(config, "tie_word_embeddings", False)
    return tied and _HEAD not in tensors and _EMBEDDING in tensors


def _completed(config: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    return {**tensors, _HEAD: tensors[_EMBEDDING]} if _is_copied(config, tensors) else tensors


def _tied(config: Mapping[str, Any], tensors: Mapping[str, Tensor] | None) -> bool:
    """The result of ``_is_scaled``, checked against the tensors if they are given."""
    scaled = _is_scaled(config)
    if tensors is None or _is_copied(config, tensors):
        return scaled
    separate = _HEAD in tensors
    if scaled and separate:
        shared = tensors.get(_EMBEDDING)
        if shared is not None and not np.array_equal(shared.read(), tensors[_HEAD].read()):
            raise CheckpointError(
                f"{shared.file}: {_HEAD}",
                expected="the embedding, because according to config.json it is the output projection (v1.0)",
                found="other values",
                fix="for a v1.1 model, whose logits are not scaled, set tie_word_embeddings and scale_decoder_outputs "
                "to false in config.json; a separate but scaled projection is in no released T5 and not supported",
            )
    if not scaled and not separate:
        raise CheckpointError(
            "config.json: tie_word_embeddings",
            expected=f"an {_HEAD} in the weights, because it is false",
            found="none",
            fix="import the whole model, T5ForConditionalGeneration, not the encoder alone",
        )
    return scaled


def _attention(ours: tuple[str, ...], theirs: str, embed: int, joined: int) -> Iterator[Leaf]:
    for name, letter in (("query", "q"), ("key", "k"), ("value", "v")):
        yield Leaf((*ours, name, "kernel"), f"{theirs}.{letter}.weight", (embed, joined), transpose=True)
    yield Leaf((*ours, "out", "kernel"), f"{theirs}.o.weight", (joined, embed), transpose=True)


def _stack(config: T5Config, side: str) -> Iterator[Leaf]:
    embed, joined, mlp = config.emb_dim, config.num_heads * config.head_dim, config.mlp_dim
    decoder = side == "decoder"
    bias = f"{side}.block.0.layer.0.SelfAttention.relative_attention_bias.weight"
    yield Leaf((side, "relpos_bias", "rel_embedding"), bias, (config.num_heads, _BUCKETS), transpose=True)
    for i in range(config.num_decoder_layers if decoder else config.num_encoder_layers):
        ours, theirs = (side, f"layers_{i}"), f"{side}.block.{i}.layer"
        parts = [("self_attention", "SelfAttention", "pre_self_attention")] if decoder else []
        parts += [("encoder_decoder_attention", "EncDecAttention", "pre_cross_attention")] if decoder else []
        for j, (name, module, norm) in enumerate(parts or [("attention", "SelfAttention", "pre_attention")]):
            yield Leaf((*ours, f"{norm}_layer_norm", "scale"), f"{theirs}.{j}.layer_norm.weight", (embed,))
            yield from _attention((*ours, name), f"{theirs}.{j}.{module}", embed, joined)
        last = 2 if decoder else 1
        yield Leaf((*ours, "pre_mlp_layer_norm", "scale"), f"{theirs}.{last}.layer_norm.weight", (embed,))
        gates = ["wi"] if len(config.mlp_activations) == 1 else ["wi_0", "wi_1"]
        for name in [*gates, "wo"]:
            shape = (mlp, embed) if name == "wo" else (embed, mlp)
            tensor = f"{theirs}.{last}.DenseReluDense.{name}.weight"
            yield Leaf((*ours, "mlp", name, "kernel"), tensor, shape, transpose=True)
    yield Leaf((side, f"{side}_norm", "scale"), f"{side}.final_layer_norm.weight", (embed,))


def leaves(config: T5Config) -> list[Leaf]:
    """All parameters of a model."""
    rows, embed = config.vocab_size, config.emb_dim
    found = [Leaf(("token_embedder", "embedding"), _EMBEDDING, (rows, embed), padded=True)]
    found += [*_stack(config, "encoder"), *_stack(config, "decoder")]
    if not config.logits_via_embedding:
        path = ("decoder", "logits_dense", "kernel")
        found.append(Leaf(path, _HEAD, (embed, rows), transpose=True, padded=True))
    return found


def hf_config(config: T5Config, base: Mapping[str, Any], rows: int) -> dict[str, Any]:
    """The content of config.json for a model with ``rows`` embedding rows; other keys of ``base`` are kept."""
    projections = {activations: name for name, activations in _GATED.items()}
    tied = config.logits_via_embedding
    return {
        **base,
        "architectures": ["T5ForConditionalGeneration"],
        "model_type": "t5",
        "is_encoder_decoder": True,
        "vocab_size": rows,
        "d_model": config.emb_dim,
        "d_kv": config.head_dim,
        "d_ff": config.mlp_dim,
        "num_heads": config.num_heads,
        "num_layers": config.num_encoder_layers,
        "num_decoder_layers": config.num_decoder_layers,
        "feed_forward_proj": projections[tuple(config.mlp_activations)],
        "dropout_rate": config.dropout_rate,
        "relative_attention_num_buckets": _BUCKETS,
        "relative_attention_max_distance": _MAX_DISTANCE,
        "layer_norm_epsilon": _EPSILON,
        "tie_word_embeddings": tied,
        "scale_decoder_outputs": tied,
        "pad_token_id": 0,
        "eos_token_id": 1,
        "decoder_start_token_id": 0,
    }


def config_from_parameters(parameters: Mapping[str, Any]) -> T5Config:
    """Derives the configuration from the shapes of a parameter tree.

    Shapes determine everything except the activations: two branches are assumed to be T5 v1.1's ``gelu * linear``, one
    branch v1.0's ``relu``.

    Raises:
      CheckpointError: the tree does not belong to a T5 model.
    """
    try:
        rows, embed = parameters["token_embedder"]["embedding"].shape
        heads, _ = parameters["encoder"]["relpos_bias"]["rel_embedding"].shape
        layer, scan = _first_layer(parameters["encoder"])
        joined = layer["attention"]["query"]["kernel"].shape[-1]
        gated = "wi_0" in layer["mlp"]
        return T5Config(
            vocab_size=rows,
            emb_dim=embed,
            num_heads=heads,
            num_encoder_layers=_depth(parameters["encoder"]),
            num_decoder_layers=_depth(parameters["decoder"]),
            head_dim=joined // heads,
            mlp_dim=layer["mlp"]["wo"]["kernel"].shape[-2],
            mlp_activations=("gelu", "linear") if gated else ("relu",),
            logits_via_embedding="logits_dense" not in parameters["decoder"],
            scan_layers=scan,
        )
    except (KeyError, ValueError, AttributeError) as error:
        raise CheckpointError(
            "checkpoint",
            expected="the parameters of a T5",
            found=f"none at {error}",
            fix="for a decoder-only student, set --base to the directory that fsa import-hf wrote",
        ) from error


def _first_layer(stack: Mapping[str, Any]) -> tuple[Mapping[str, Any], bool]:
    return (stack["layers"], True) if "layers" in stack else (stack["layers_0"], False)


def _depth(stack: Mapping[str, Any]) -> int:
    if "layers" in stack:
        return stack["layers"]["mlp"]["wo"]["kernel"].shape[0]
    return sum(1 for key in stack if re.fullmatch(r"layers_\d+", key))


def _optional(name: str) -> bool:
    # Copies of shared.weight, and the cross-attention bias in the first released files, which is not used.
    return name in ("encoder.embed_tokens.weight", "decoder.embed_tokens.weight", _HEAD) or name.endswith(
        "EncDecAttention.relative_attention_bias.weight"
    )


FAMILY = Family(
    name="T5",
    network="fsa_base.networks.t5.network:Transformer",
    decoder_only=False,
    model_types=("t5",),
    config=config_from_hf,
    leaves=leaves,
    hf_config=hf_config,
    optional=_optional,
    completed=_completed,
)
