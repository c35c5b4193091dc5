"""A student as a Hugging Face model directory."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from fsa_jax.aside import only_files, written_aside
from fsa_jax.errors import SettingError, VocabularyError
from fsa_jax.models.hf.mapping import write_parameters
from fsa_jax.models.hf.safetensors_io import write_directory
from fsa_jax.models.hf.sources import SMALL_FILES
from fsa_jax.serving import self_check
from fsa_jax.serving.model_card import Card, write_card
from fsa_jax.serving.student import Student
from fsa_jax.serving.t5_tokenizer import t5_tokenizer
from fsa_jax.serving.tokenization import NEWLINE_TOKEN, T5Tokenization

DTYPES: dict[str, Any] = {"float32": np.float32, "float16": np.float16, "bfloat16": ml_dtypes.bfloat16}


@dataclass(frozen=True)
class Check:
    """How an export is compared with the JAX student.

    Args:
      sentences: to compare on.
      source: what they are, for the model card.
      tolerance: on the mean difference of a token's log-probability; None for the dtype's.
      max_length: tokens of the outputs.
    """

    sentences: Sequence[str]
    source: str
    tolerance: float | None = None
    max_length: int = 64


CARD = "README.md"
_FILES = only_files("*.safetensors", "model.safetensors.index.json", CARD, *SMALL_FILES, marks=[CARD])


def _foreign(out: Path) -> str | None:
    """The files have the names of any Hugging Face model; our card tells ours from a download."""
    found = _FILES(out)
    if found is None and "trained with fsa_jax" not in (out / CARD).read_text(encoding="utf-8", errors="replace"):
        return "a model that this command did not write"
    return found


def export_hf(
    student: Student, out: Path, *, dtype: str, check: Check, card: Card, overwrite: bool = False
) -> self_check.Agreement:
    """Writes ``out`` with config.json, safetensors, tokenizer and model card, after PyTorch has run it.

    Args:
      student: to export.
      out: a directory that does not exist, is empty, or with ``overwrite`` an earlier export.
      dtype: of the weights: float32, float16 or bfloat16.
      check: how it is compared.
      card: what the model card says.
      overwrite: replace an earlier export.

    Returns:
      How the exported model compares.

    Raises:
      SettingError: an unknown dtype, ``out`` cannot be written, or PyTorch is not installed.
      CheckpointError: the exported model differs by more than the tolerance. What was at ``out`` stays as it was then.
    """
    if dtype not in DTYPES:
        raise SettingError("--dtype", expected=" or ".join(DTYPES), found=repr(dtype), fix="--dtype float32")
    _require_torch()
    with written_aside(
        out,
        command="fsa export-hf",
        settings={"checkpoint": str(student.path), "dtype": dtype},
        foreign=_foreign,
        inputs=[student.path],
        overwrite=overwrite,
    ) as partial:
        weights = write_parameters(student.family, student.config, student.parameters, DTYPES[dtype], rows=student.rows)
        write_directory(partial, weights)
        config = student.family.hf_config(student.config, student.hf_config, student.rows)
        content = {key: value for key, value in config.items() if key != "torch_dtype"} | {"dtype": dtype}
        (partial / "config.json").write_text(json.dumps(content, indent=2, sort_keys=True) + "\n")
        _write_tokenizer(student, partial, check.sentences)
        expected = self_check.reference(student, check.sentences, check.max_length)
        found = self_check.torch_outputs(partial, expected, check.max_length, student.rows, student.tokens.end_ids)
        agreement = self_check.compare(expected, *found)
        tolerance = self_check.TOLERANCES[dtype] if check.tolerance is None else check.tolerance
        fix = "export with --dtype float32, or accept more with --tolerance"
        self_check.require(agreement, tolerance, f"the Hugging Face model in {dtype}", fix)
        write_card(partial / CARD, student, card, dtype, agreement, check.source)
    return agreement


def _require_torch() -> None:
    try:
        import torch  # noqa: F401  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise SettingError(
            "self-check",
            expected="PyTorch, which runs the exported model before it is left behind",
            found="it is not installed",
            fix="pip install torch==2.13.0 --index-url https://download.pytorch.org/whl/cpu",
        ) from error


def _write_tokenizer(student: Student, directory: Path, sentences: Sequence[str]) -> None:
    """Copies the tokenizer that the student came with; a T5's is made from its SentencePiece model and ``[NL]``."""
    if student.hf_files is not None:
        for name in SMALL_FILES:
            if name != "config.json" and (student.hf_files / name).is_file():
                shutil.copyfile(student.hf_files / name, directory / name)
    tokens = student.tokens
    if not isinstance(tokens, T5Tokenization):
        return
    if not (directory / "generation_config.json").is_file():
        content = {"decoder_start_token_id": 0, "eos_token_id": tokens.end_ids[0], "pad_token_id": 0}
        (directory / "generation_config.json").write_text(json.dumps(content, indent=2) + "\n")
    shutil.copyfile(tokens.model, directory / "spiece.model")
    for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"):
        (directory / name).unlink(missing_ok=True)
    tokenizer = t5_tokenizer(directory)
    if student.rows >= tokens.size:
        tokenizer.add_tokens([NEWLINE_TOKEN])
    tokenizer.save_pretrained(str(directory))
    for text in sentences:
        ours = tokens.encode_target(text)
        theirs = list(tokenizer(text.replace("\n", NEWLINE_TOKEN))["input_ids"])
        # The same pieces in another order (!! ! for ! !!) are a tie, which the rounding of the scores' sum decides:
        # SentencePiece adds in float32, tokenizers in float64.
        spelled = ["".join(tokenizer.convert_ids_to_tokens(ids)) for ids in (ours, theirs)]
        if sorted(ours) != sorted(theirs) or spelled[0] != spelled[1]:
            raise VocabularyError(
                tokens.model,
                expected=f"the same ids from the exported tokenizer for {text!r}: {ours}",
                found=str(theirs),
                fix="train the vocabulary as unigram or byte pairs, with T5's special ids and without byte fallback",
            )
