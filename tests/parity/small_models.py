"""Small models with random weights in every family, and padding."""

# pyright: reportMissingImports=false

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from fsa_jax.weights.families import open_model
from fsa_jax.weights.hf_mapping import materialise

FAMILIES = ("t5_v1_0", "t5_v1_1", "t5_32101", "llama_3_2", "qwen2_5", "qwen3")
T5_FAMILIES = FAMILIES[:3]
DECODERS = FAMILIES[3:]
TIED_V1_1 = "t5_v1_1_tied"
"""In transformers 5, a new T5 v1.1 uses its embedding as output projection, whatever its configuration says."""
_WIDTH = 64


def _t5(vocab_size: int, projection: str, scaled: bool, own_projection: bool) -> Any:
    import torch
    from transformers import T5Config, T5ForConditionalGeneration

    shape: dict[str, Any] = {"tie_word_embeddings": scaled, "decoder_start_token_id": 0}
    config = T5Config(
        vocab_size=vocab_size,
        d_model=_WIDTH,
        d_kv=16,
        d_ff=128,
        num_layers=2,
        num_heads=4,
        feed_forward_proj=projection,
        **shape,
    )
    model = T5ForConditionalGeneration(config)
    if own_projection:
        model.lm_head.weight = torch.nn.Parameter(0.3 * torch.randn(vocab_size, _WIDTH))
    elif not scaled:
        # Unscaled logits of an embedding with unit variance are larger than the others here, and so is their rounding.
        model.shared.weight.data.mul_(0.3)
    return model


def _decoder(family: str) -> Any:
    import transformers

    shape: dict[str, Any] = {
        "vocab_size": 512,
        "hidden_size": _WIDTH,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 16,
        "max_position_embeddings": 131072,
        "tie_word_embeddings": True,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "pad_token_id": 0,
    }
    if family == "llama_3_2":
        # A short original context, so that the sentences use every range of the RoPE scaling.
        scaling = {"factor": 32.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
        rope = {"rope_type": "llama3", "original_max_position_embeddings": 64, "rope_theta": 500000.0, **scaling}
        config = transformers.LlamaConfig(**shape, rope_parameters=rope, rms_norm_eps=1e-5)
        return transformers.LlamaForCausalLM(config)
    if family == "qwen2_5":
        shape.pop("head_dim")
        rope = {"rope_type": "default", "rope_theta": 1000000.0}
        return transformers.Qwen2ForCausalLM(transformers.Qwen2Config(**shape, rope_parameters=rope))
    shape["head_dim"] = 32
    rope = {"rope_type": "default", "rope_theta": 1000000.0}
    return transformers.Qwen3ForCausalLM(transformers.Qwen3Config(**shape, rope_parameters=rope))


def randomise(model: Any) -> None:
    """Draws random norms and biases, too: as ones and zeros they would hide a mistake."""
    import torch

    for name, parameter in model.named_parameters():
        if "norm" in name:
            torch.nn.init.uniform_(parameter, 0.5, 1.5)
        elif name.endswith("bias"):
            torch.nn.init.normal_(parameter, std=0.5)
        elif "relative_attention_bias" in name:
            torch.nn.init.normal_(parameter, std=1.0)
        elif any(part in name for part in ("self_attn", "mlp", "Attention", "DenseReluDense")):
            torch.nn.init.normal_(parameter, std=0.12)
        elif "embed_tokens" in name:
            torch.nn.init.normal_(parameter, std=0.3)


def torch_model_of(family: str) -> Any:
    """A small model of the family with random weights; each family has its own seed."""
    import torch

    torch.manual_seed((*FAMILIES, TIED_V1_1).index(family))
    if family.startswith("t5_"):
        v1_1 = family.startswith("t5_v1_1")
        rows = 32101 if family == "t5_32101" else 512
        model = _t5(rows, "gated-gelu" if v1_1 else "relu", not v1_1, own_projection=family == "t5_v1_1")
    else:
        model = _decoder(family)
    randomise(model)
    return model.eval()


def padded(rows: list[list[int]], *, left: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Token ids with zeros as padding, and 1 where there is a token."""
    width = max(map(len, rows))
    ids, mask = np.zeros((len(rows), width), np.int32), np.zeros((len(rows), width), np.int32)
    for i, row in enumerate(rows):
        where = slice(width - len(row), width) if left else slice(0, len(row))
        ids[i, where], mask[i, where] = row, 1
    return ids, mask


def load(directory: Path, *, scan_layers: bool = False) -> tuple[Any, dict[str, Any]]:
    """Configuration and parameters of a saved model."""
    model = open_model(directory)
    return model.config, materialise(model.parameters(np.float32, scan_layers=scan_layers))


def token_rows(sentences: list[list[int]], vocab_size: int) -> list[list[int]]:
    """Ids of the sentences, taken modulo a smaller vocabulary: only the lengths matter."""
    return [[3 + (token - 3) % (vocab_size - 3) for token in ids] for ids in sentences]


def write_tokenizer(directory: Path) -> None:
    """A byte-level tokenizer with a chat template like Qwen's, in which id 0 is an ordinary token, as in Qwen."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={letter: i for i, letter in enumerate(letters)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    fast: Any = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="<|im_end|>", additional_special_tokens=["<|im_start|>"]
    )
    fast.chat_template = (
        "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n"
        "{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    fast.save_pretrained(str(directory))
    (directory / "generation_config.json").unlink(missing_ok=True)
