"""Conversion of Llama-3.2, Qwen2.5 and Qwen3 between Hugging Face's format and this project's."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fsa_base.errors import CheckpointError, SettingError
from fsa_base.networks.llama.config import LlamaConfig, RopeScaling
from fsa_jax.common.paths import STUDENT_VARIABLE
from fsa_jax.weights.hf_files import CONFIG, HF_FILES, Tensor, read_config
from fsa_jax.weights.hf_mapping import MOST_LAYERS, Family, Leaf, count_of, flag_of, number_of

_DEFAULT_THETA = 10000.0


def _unsupported(key: str, found: object, expected: str) -> CheckpointError:
    return CheckpointError(
        f"config.json: {key}",
        expected=expected,
        found=repr(found),
        fix="import a Llama-3.2, Qwen2.5 or Qwen3 model with plain or llama3-scaled rotary embeddings",
    )


def _rope(config: Mapping[str, Any]) -> tuple[float, RopeScaling | None]:
    # transformers 5 writes all settings to rope_parameters, transformers 4 to rope_theta and rope_scaling.
    parts = [config.get(key) or {} for key in ("rope_scaling", "rope_parameters")]
    if not all(isinstance(part, Mapping) for part in parts):
        raise _unsupported("rope_scaling", parts, "an object or null")
    rope = {**parts[0], **parts[1]}
    theta = number_of(rope if "rope_theta" in rope else config, "rope_theta", _DEFAULT_THETA)
    kind = rope.get("rope_type", rope.get("type", "default"))
    if kind == "default":
        return theta, None
    if kind != "llama3":
        raise _unsupported("rope_type", kind, "'default' or 'llama3'")
    return theta, RopeScaling(
        factor=number_of(rope, "factor"),
        low_frequency=number_of(rope, "low_freq_factor"),
        high_frequency=number_of(rope, "high_freq_factor"),
        original_length=count_of(rope, "original_max_position_embeddings"),
    )


def config_from_hf(config: Mapping[str, Any], tensors: Mapping[str, Tensor] | None = None) -> LlamaConfig:
    """The configuration of a model from the content of its config.json.

    Raises:
      CheckpointError: config.json lacks a key, or needs a feature that this network lacks, such as sliding windows.
    """
    for key in ("use_sliding_window", "mlp_bias"):
        if flag_of(config, key, False):
            raise _unsupported(key, True, "False")
    if config.get("hidden_act", "silu") != "silu":
        raise _unsupported("hidden_act", config["hidden_act"], "'silu'")
    family = config["model_type"]
    if family != "qwen2" and flag_of(config, "attention_bias", False):
        raise _unsupported("attention_bias", True, "False (only Qwen2.5 has biases, on query, key and value)")
    theta, scaling = _rope(config)
    heads, embed = count_of(config, "num_attention_heads"), count_of(config, "hidden_size")
    return LlamaConfig(
        vocab_size=count_of(config, "vocab_size"),
        emb_dim=embed,
        num_heads=heads,
        num_kv_heads=count_of(config, "num_key_value_heads", default=heads),
        num_layers=count_of(config, "num_hidden_layers", MOST_LAYERS),
        head_dim=count_of(config, "head_dim", default=128 if family == "qwen3" else max(1, embed // heads)),
        mlp_dim=count_of(config, "intermediate_size"),
        rope_theta=theta,
        rope_scaling=scaling,
        norm_epsilon=number_of(config, "rms_norm_eps", 1e-6),
        attention_bias=family == "qwen2",
        query_key_norm=family == "qwen3",
        logits_via_embedding=flag_of(config, "tie_word_embeddings", False),
    )


def student_directory(directory: str | Path | None = None) -> Path:
    """The directory with configuration and tokenizer of the imported model from which training starts.

    Args:
      directory: output directory of ``fsa import-hf``. If None, ``$FSA_STUDENT``.

    Raises:
      SettingError: it is not an output directory of ``fsa import-hf``.
    """
    configured = str(directory or os.environ.get(STUDENT_VARIABLE, ""))
    for candidate in (Path(configured) / HF_FILES, Path(configured)):
        if configured and (candidate / CONFIG).is_file():
            return candidate
    raise SettingError(
        f"{STUDENT_VARIABLE}={configured}",
        expected="the directory of an imported decoder-only model",
        found="nothing" if not configured else "no config.json there",
        fix=f"fsa import-hf Qwen/Qwen2.5-0.5B-Instruct weights/qwen, then {STUDENT_VARIABLE}=weights/qwen",
    )


def student_config(
    directory: str | None = None,
    dtype: Any = "bfloat16",
    scan_layers: bool = False,
    remat: bool = False,
    logits_in_dtype: bool = False,
    embedding_gradient: str = "scatter",
    attention_implementation: str = "blocks",
) -> LlamaConfig:
    """The configuration of an imported model, for gin.

    Args:
      directory: output directory of ``fsa import-hf``; the environment variable FSA_STUDENT by default.
      dtype: dtype of the activations.
      scan_layers: whether layers are stacked; must be the same as at the import.
      remat: whether to recompute each layer's activations in the backward pass instead of keeping them.
      logits_in_dtype: see :class:`LlamaConfig`; so are the next two.
      embedding_gradient: how the gradients of the embedding table are summed.
      attention_implementation: how attention is computed.

    Raises:
      SettingError: there is no such directory.
      CheckpointError: its model belongs to another family.
    """
    content = read_config(student_directory(directory))
    if content.get("model_type") not in FAMILY.model_types:
        raise _unsupported("model_type", content.get("model_type"), " or ".join(FAMILY.model_types))
    config = config_from_hf(content)
    return dataclasses.replace(
        config,
        dtype=dtype,
        scan_layers=scan_layers,
        remat=remat,
        logits_in_dtype=logits_in_dtype,
        embedding_gradient=embedding_gradient,
        attention_implementation=attention_implementation,
    )


def leaves(config: LlamaConfig) -> list[Leaf]:
    """All parameters of a model."""
    embed, mlp = config.emb_dim, config.mlp_dim
    joined, joined_kv = config.num_heads * config.head_dim, config.num_kv_heads * config.head_dim
    found = [Leaf(("decoder", "token_embedder", "embedding"), "model.embed_tokens.weight", (config.vocab_size, embed))]
    for i in range(config.num_layers):
        ours, theirs = ("decoder", f"layers_{i}"), f"model.layers.{i}"
        for norm, name in (("pre_attention", "input_layernorm"), ("pre_mlp", "post_attention_layernorm")):
            found.append(Leaf((*ours, f"{norm}_layer_norm", "scale"), f"{theirs}.{name}.weight", (embed,)))
        widths = {"query": ("q", joined), "key": ("k", joined_kv), "value": ("v", joined_kv)}
        for name, (letter, width) in widths.items():
            tensor, path = f"{theirs}.self_attn.{letter}_proj", (*ours, "attention", name)
            found.append(Leaf((*path, "kernel"), f"{tensor}.weight", (embed, width), transpose=True))
            if config.attention_bias:
                found.append(Leaf((*path, "bias"), f"{tensor}.bias", (width,)))
        if config.query_key_norm:
            for name, letter in (("query", "q"), ("key", "k")):
                path = (*ours, "attention", f"{name}_norm", "scale")
                found.append(Leaf(path, f"{theirs}.self_attn.{letter}_norm.weight", (config.head_dim,)))
        out = (*ours, "attention", "out", "kernel")
        found.append(Leaf(out, f"{theirs}.self_attn.o_proj.weight", (joined, embed), transpose=True))
        for name, tensor in (("wi_0", "gate_proj"), ("wi_1", "up_proj"), ("wo", "down_proj")):
            shape = (mlp, embed) if name == "wo" else (embed, mlp)
            found.append(Leaf((*ours, "mlp", name, "kernel"), f"{theirs}.mlp.{tensor}.weight", shape, transpose=True))
    found.append(Leaf(("decoder", "decoder_norm", "scale"), "model.norm.weight", (embed,)))
    if not config.logits_via_embedding:
        shape = (embed, config.vocab_size)
        found.append(Leaf(("decoder", "logits_dense", "kernel"), "lm_head.weight", shape, transpose=True))
    return found


def hf_config(config: LlamaConfig, base: Mapping[str, Any], rows: int) -> dict[str, Any]:
    """The content of ``base``, the config.json of the imported model, updated for these weights."""
    return {**base, "vocab_size": rows, "tie_word_embeddings": config.logits_via_embedding}


def _optional(name: str) -> bool:
    # Old Llama files have the rotary buffer; the file of a model with tied embeddings may have the embedding twice.
    return name.endswith("rotary_emb.inv_freq") or name == "lm_head.weight"


FAMILY = Family(
    name="Llama and Qwen",
    network="fsa_base.networks.llama.network:LlamaTransformer",
    decoder_only=True,
    model_types=("llama", "qwen2", "qwen3"),
    config=config_from_hf,
    leaves=leaves,
    hf_config=hf_config,
    optional=_optional,
)
