"""Exports a student to a Hugging Face model directory."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from fsa_base.errors import SettingError
from fsa_jax.common.atomic_directory import only_files, written_aside
from fsa_jax.serving import export_check
from fsa_jax.serving.model_card import CARD, Card, write_card
from fsa_jax.serving.prediction_record import LONGEST_OUTPUT
from fsa_jax.serving.student import Student, read_json
from fsa_jax.serving.torch_model import TorchModel
from fsa_jax.tokenizers.t5 import NEWLINE_TOKEN, T5Tokenizer
from fsa_jax.tokenizers.transformers_t5 import t5_tokenizer
from fsa_jax.weights.hf_files import SMALL_FILES, TOKENIZER_FILES, write_directory
from fsa_jax.weights.hf_mapping import write_parameters

DTYPES: dict[str, Any] = {"float32": np.float32, "float16": np.float16, "bfloat16": ml_dtypes.bfloat16}


@dataclass(frozen=True)
class Check:
    """Settings of the comparison between an export and the JAX student.

    Args:
      sentences: input sentences of the comparison.
      source: description of the sentences, for the model card.
      tolerance: largest accepted mean difference of a token's log-probability. If None, the tolerance of the dtype.
      max_length: number of tokens of the outputs that are compared; the rest is not compared.
    """

    sentences: Sequence[str]
    source: str
    tolerance: float | None = None
    max_length: int = 100


GENERATION_CONFIG = "generation_config.json"
_GENERATION_KEYS = {
    "torch_dtype",
    "task_specific_params",
    *("do_sample", "num_beams", "num_beam_groups", "num_return_sequences", "early_stopping", "diversity_penalty"),
    *("max_length", "min_length", "length_penalty", "exponential_decay_length_penalty"),
    *("repetition_penalty", "no_repeat_ngram_size", "encoder_no_repeat_ngram_size", "bad_words_ids"),
    *("temperature", "top_k", "top_p", "typical_p", "forced_bos_token_id", "forced_eos_token_id"),
    *("suppress_tokens", "begin_suppress_tokens"),
}
"""Keys about decoding in old configurations, and their key for the dtype."""
PATTERNS = ("*.safetensors", "model.safetensors.index.json", CARD, *SMALL_FILES)
_FILES = only_files(*PATTERNS, marks=[CARD])


def foreign(out: Path) -> str | None:
    """Recognises directories that this command did not write, by the model card: all models have the same file
    names."""
    found = _FILES(out)
    if found is None and "trained with fsa_jax" not in (out / CARD).read_text(encoding="utf-8", errors="replace"):
        return "a model that this command did not write"
    return found


def export_hf(
    student: Student, out: Path, *, dtype: str, check: Check, card: Card, overwrite: bool = False
) -> export_check.Agreement:
    """Writes ``out`` with config.json, safetensors, tokenizer and model card. PyTorch runs and checks the model first.

    Args:
      student: student to export.
      out: output directory. It must not exist or be empty; with ``overwrite`` it may be an earlier export.
      dtype: dtype of the weights: float32, float16 or bfloat16.
      check: settings of the comparison with the JAX student.
      card: content of the model card besides what the student itself says.
      overwrite: whether to replace an earlier export.

    Returns:
      The result of the comparison.

    Raises:
      SettingError: the dtype is unknown, ``out`` cannot be written, or PyTorch is not installed.
      CheckpointError: the exported model differs by more than the tolerance. Then ``out`` is unchanged.
    """
    if dtype not in DTYPES:
        raise SettingError("--dtype", expected=" or ".join(DTYPES), found=repr(dtype), fix="--dtype float32")
    _require_torch()
    with written_aside(
        out,
        command="fsa export-hf",
        settings={"checkpoint": str(student.path), "dtype": dtype},
        foreign=foreign,
        inputs=[student.path],
        overwrite=overwrite,
    ) as partial:
        expected = export_check.Reference(student, check.sentences, check.max_length)
        write_hf(student, partial, dtype, expected.answers)
        exported = TorchModel(partial, student, check.max_length)
        exported.require_same_inputs(check.sentences, expected)
        agreement = export_check.compare(expected, exported)
        other_type = export_check.OTHER_TYPE.format(option="--dtype")
        fix = other_type if dtype != "float32" else "report it: float32 must be exact"
        export_check.require(agreement, dtype, check.tolerance, f"the Hugging Face model in {dtype}", fix)
        write_card(partial / CARD, student, card, "transformers", dtype, agreement, check.source)
    return agreement


def write_hf(student: Student, directory: Path, dtype: str, answers: export_check.Answers) -> None:
    """Writes the files of an export, except the model card, to a directory, and does not check them."""
    weights = write_parameters(student.family, student.config, student.parameters, DTYPES[dtype], rows=student.rows)
    write_directory(directory, weights)
    config = student.family.hf_config(student.config, student.hf_config, student.rows)
    content = {key: value for key, value in config.items() if key not in _GENERATION_KEYS} | {"dtype": dtype}
    _write_json(directory / "config.json", content)
    _write_tokenizer(student, directory)
    _write_json(directory / GENERATION_CONFIG, _generation_config(student, config, answers))


def _write_json(file: Path, content: dict[str, Any]) -> None:
    file.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n")


def _generation_config(student: Student, config: dict[str, Any], answers: export_check.Answers) -> dict[str, Any]:
    """A generation_config.json with which ``generate`` decodes like ``fsa predict``: greedily and without constraints.

    The imported model's own file is for chats (Qwen2.5's samples and penalises repetition). Without such a file
    transformers stops after 20 tokens.
    """
    end_ids = list(student.tokens.end_ids)
    came_with = read_json(student.hf_files / GENERATION_CONFIG) if student.hf_files else {}
    content: dict[str, Any] = {
        "do_sample": False,
        "num_beams": 1,
        "max_new_tokens": LONGEST_OUTPUT["atsa" if answers == "pairs" else "analysis"],
        "eos_token_id": end_ids if len(end_ids) > 1 else end_ids[0],
    }
    if not student.tokens.decoder_only:
        return {**content, "pad_token_id": 0, "decoder_start_token_id": 0}
    kept = {key: came_with.get(key, config.get(key)) for key in ("bos_token_id", "pad_token_id")}
    kept = {key: value for key, value in kept.items() if value is not None}
    return {"pad_token_id": end_ids[0], **content, **kept}


def _require_torch() -> None:
    try:
        import torch  # noqa: F401  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise SettingError(
            "self-check",
            expected="PyTorch, which runs and checks the exported model",
            found="it is not installed",
            fix="pip install torch==2.13.0 --index-url https://download.pytorch.org/whl/cpu",
        ) from error


def _write_tokenizer(student: Student, directory: Path) -> None:
    """Copies the student's tokenizer; for T5 it is built from the SentencePiece model and ``[NL]``."""
    tokens = student.tokens
    if not isinstance(tokens, T5Tokenizer):
        assert student.hf_files is not None
        for name in TOKENIZER_FILES:
            if (student.hf_files / name).is_file():
                shutil.copyfile(student.hf_files / name, directory / name)
        return
    shutil.copyfile(tokens.model, directory / "spiece.model")
    tokenizer = t5_tokenizer(directory)
    if student.rows >= tokens.size:
        tokenizer.add_tokens([NEWLINE_TOKEN])
    tokenizer.save_pretrained(str(directory))
