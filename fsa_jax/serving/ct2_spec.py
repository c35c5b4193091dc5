"""Converts students to CTranslate2 model specifications, directly from the parameters and without PyTorch.

CTranslate2 stores matrices as (outputs, inputs), fuses the projections of an attention layer, and distinguishes T5 v1.0
from v1.1 by ``scale_outputs``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from ctranslate2 import specs
from ctranslate2.specs import attention_spec, common_spec

from fsa_base.networks.llama.config import LlamaConfig
from fsa_base.networks.t5.network import T5Config
from fsa_jax.serving.ct2 import row_names
from fsa_jax.serving.student import Student
from fsa_jax.tokenizers.chat import ChatTokenizer
from fsa_jax.tokenizers.t5 import T5Tokenizer
from fsa_jax.weights.hf_mapping import flatten, layer_of, stacked

_ACTIVATIONS = {
    "relu": common_spec.Activation.RELU,
    "gelu": common_spec.Activation.GELUTanh,
    "silu": common_spec.Activation.SWISH,
}
_T5_MAX_DISTANCE = 128


class _Parameters:
    """Access to parameters by unstacked path, whether the layers are stacked or not."""

    def __init__(self, tree: Mapping[str, Any]) -> None:
        self._flat = dict(flatten(tree))

    def __call__(self, path: str) -> np.ndarray:
        keys = tuple(path.split("/"))
        if keys in self._flat:
            return self._flat[keys]
        layer = layer_of(keys)
        return self._flat[stacked(keys)][0 if layer is None else layer]

    def has(self, path: str) -> bool:
        keys = tuple(path.split("/"))
        return keys in self._flat or stacked(keys) in self._flat


def _matrix(parameters: _Parameters, path: str) -> np.ndarray:
    # Always a copy, because CTranslate2 scales arrays in place when it quantises them.
    return parameters(f"{path}/kernel").T.copy()


def _fuse(spec: Any, parameters: _Parameters, paths: Sequence[str]) -> None:
    spec.weight = np.concatenate([_matrix(parameters, path) for path in paths])
    if parameters.has(f"{paths[0]}/bias"):
        spec.bias = np.concatenate([parameters(f"{path}/bias") for path in paths])


def model_spec(student: Student) -> Any:
    """The specification of a student, including weights and vocabulary."""
    parameters = _Parameters(student.parameters)
    if isinstance(student.tokens, ChatTokenizer):
        spec = _decoder_spec(student.config, parameters)
        spec.register_vocabulary(row_names(student.tokens, student.rows))
        spec.config.bos_token = spec.config.eos_token = student.tokens.end_token
        spec.config.unk_token = ""
        spec.config.layer_norm_epsilon = student.config.norm_epsilon
        return spec
    assert isinstance(student.tokens, T5Tokenizer)
    spec = _t5_spec(student.config, parameters, student.rows)
    tokens = row_names(student.tokens, student.rows)
    spec.register_source_vocabulary(tokens)
    spec.register_target_vocabulary(tokens)
    spec.config.bos_token = spec.config.decoder_start_token = tokens[0]
    spec.config.eos_token, spec.config.unk_token = tokens[student.tokens.end_ids[0]], tokens[2]
    spec.config.layer_norm_epsilon = 1e-6
    return spec


def _t5_spec(config: T5Config, parameters: _Parameters, rows: int) -> Any:
    spec = specs.TransformerSpec.from_config(
        (config.num_encoder_layers, config.num_decoder_layers),
        config.num_heads,
        pre_norm=True,
        activation=_ACTIVATIONS[config.mlp_activations[0]],
        ffn_glu=len(config.mlp_activations) > 1,
        relative_attention_bias=True,
        rms_norm=True,
    )
    embedding = parameters("token_embedder/embedding")[:rows].copy()
    stacks: tuple[tuple[str, Any], ...] = (("encoder", spec.encoder), ("decoder", spec.decoder))
    for side, stack in stacks:
        stack.scale_embeddings = False
        embeddings: Any = stack.embeddings  # an encoder may have several inputs
        (embeddings[0] if side == "encoder" else embeddings).weight = embedding
        stack.layer_norm.gamma = parameters(f"{side}/{side}_norm/scale")
        for i, layer in enumerate(stack.layer):
            _t5_layer(parameters, f"{side}/layers_{i}", side, layer)
            layer.self_attention.relative_attention_bias = np.ascontiguousarray(
                parameters(f"{side}/relpos_bias/rel_embedding").T
            )
            layer.self_attention.relative_attention_max_distance = np.int32(_T5_MAX_DISTANCE)
    if config.logits_via_embedding:
        spec.decoder.projection.weight = embedding
        spec.decoder.scale_outputs = float(1 / math.sqrt(config.emb_dim))
    else:
        spec.decoder.projection.weight = np.ascontiguousarray(_matrix(parameters, "decoder/logits_dense")[:rows])
    return spec


def _t5_layer(parameters: _Parameters, path: str, side: str, layer: Any) -> None:
    own = "self_attention" if side == "decoder" else "attention"
    layer.self_attention.queries_scale = 1.0
    layer.self_attention.layer_norm.gamma = parameters(f"{path}/pre_{own}_layer_norm/scale")
    projections = [f"{path}/{own}/{name}" for name in ("query", "key", "value")]
    _fuse(layer.self_attention.linear[0], parameters, projections)
    layer.self_attention.linear[-1].weight = _matrix(parameters, f"{path}/{own}/out")
    if side == "decoder":
        cross = f"{path}/encoder_decoder_attention"
        layer.attention.queries_scale = 1.0
        layer.attention.layer_norm.gamma = parameters(f"{path}/pre_cross_attention_layer_norm/scale")
        layer.attention.linear[0].weight = _matrix(parameters, f"{cross}/query")
        _fuse(layer.attention.linear[1], parameters, [f"{cross}/key", f"{cross}/value"])
        layer.attention.linear[-1].weight = _matrix(parameters, f"{cross}/out")
    _feed_forward(parameters, path, layer.ffn)


def _feed_forward(parameters: _Parameters, path: str, spec: Any) -> None:
    spec.layer_norm.gamma = parameters(f"{path}/pre_mlp_layer_norm/scale")
    gated = parameters.has(f"{path}/mlp/wi_0/kernel")
    spec.linear_0.weight = _matrix(parameters, f"{path}/mlp/wi_0" if gated else f"{path}/mlp/wi")
    if gated:
        spec.linear_0_noact.weight = _matrix(parameters, f"{path}/mlp/wi_1")
    spec.linear_1.weight = _matrix(parameters, f"{path}/mlp/wo")


def _decoder_spec(config: LlamaConfig, parameters: _Parameters) -> Any:
    scaling = config.rope_scaling
    spec = specs.TransformerDecoderModelSpec.from_config(
        config.num_layers,
        config.num_heads,
        activation=common_spec.Activation.SWISH,
        pre_norm=True,
        ffn_glu=True,
        rms_norm=True,
        rotary_dim=config.head_dim,
        rotary_interleave=False,
        rotary_scaling_type=attention_spec.RotaryScalingType.Llama3 if scaling else None,
        rotary_scaling_factor=scaling.factor if scaling else 1,
        rotary_base=config.rope_theta,
        num_heads_kv=config.num_kv_heads if config.num_kv_heads != config.num_heads else None,
        head_dim=config.head_dim,
        qk_norm=config.query_key_norm,
    )
    decoder = spec.decoder
    decoder.scale_embeddings = False
    decoder.embeddings.weight = parameters("decoder/token_embedder/embedding").copy()
    decoder.layer_norm.gamma = parameters("decoder/decoder_norm/scale")
    tied = config.logits_via_embedding
    decoder.projection.weight = decoder.embeddings.weight if tied else _matrix(parameters, "decoder/logits_dense")
    for i, layer in enumerate(decoder.layer):
        path, attention = f"decoder/layers_{i}", layer.self_attention
        attention.layer_norm.gamma = parameters(f"{path}/pre_attention_layer_norm/scale")
        projections = [f"{path}/attention/{name}" for name in ("query", "key", "value")]
        _fuse(attention.linear[0], parameters, projections)
        attention.linear[1].weight = _matrix(parameters, f"{path}/attention/out")
        if config.query_key_norm:
            attention.q_norm.gamma = parameters(f"{path}/attention/query_norm/scale")
            attention.k_norm.gamma = parameters(f"{path}/attention/key_norm/scale")
        if scaling:
            attention.rotary_low_freq_factor = float(scaling.low_frequency)
            attention.rotary_high_freq_factor = float(scaling.high_frequency)
        _feed_forward(parameters, path, layer.ffn)
    return spec
