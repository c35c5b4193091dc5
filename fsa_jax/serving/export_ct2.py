"""Exports a student to a CTranslate2 model directory."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from fsa_base.errors import SettingError
from fsa_jax.common.atomic_directory import only_files, written_aside
from fsa_jax.serving import export_check
from fsa_jax.serving.ct2 import DESCRIPTION, TOKENIZER, Ct2Generator, import_ctranslate2, load_ct2_student
from fsa_jax.serving.export_hf import Check
from fsa_jax.serving.model_card import CARD, Card, write_card
from fsa_jax.serving.student import Student
from fsa_jax.tokenizers.chat import ChatTokenizer
from fsa_jax.tokenizers.t5 import T5Tokenizer

QUANTIZATIONS = tuple(export_check.TOLERANCES)
PATTERNS = ("model.bin", "config.json", "*vocabulary.json", "*vocabulary.txt", f"{TOKENIZER}/*", DESCRIPTION, CARD)
foreign = only_files(*PATTERNS, marks=[DESCRIPTION])


def export_ct2(
    student: Student,
    out: Path,
    *,
    quantization: str,
    check: Check,
    card: Card | None = None,
    overwrite: bool = False,
) -> export_check.Agreement:
    """Writes ``out`` with a CTranslate2 model, its tokenizer, ``student.json`` and a model card. The model is run and
    checked first.

    Args:
      student: student to export.
      out: output directory. It must not exist or be empty; with ``overwrite`` it may be an earlier export.
      quantization: quantization of the weights, one of ``QUANTIZATIONS``.
      check: settings of the comparison with the JAX student.
      card: content of the model card besides what the student itself says.
      overwrite: whether to replace an earlier export.

    Returns:
      The result of the comparison.

    Raises:
      SettingError: the quantization is unknown, ``out`` cannot be written, or CTranslate2 is not installed.
      CheckpointError: the exported model differs by more than the tolerance. Then ``out`` is unchanged.
    """
    if quantization not in QUANTIZATIONS:
        raise SettingError(
            "--quantization", expected=" or ".join(QUANTIZATIONS), found=repr(quantization), fix="--quantization int8"
        )
    import_ctranslate2()
    with written_aside(
        out,
        command="fsa export-ct2",
        settings={"checkpoint": str(student.path), "quantization": quantization},
        foreign=foreign,
        inputs=[student.path],
        overwrite=overwrite,
    ) as partial:
        # Computed before the export, because quantisation scales the parameters in place.
        expected = export_check.Reference(student, check.sentences, check.max_length)
        write_ct2(student, partial, quantization)
        exported = load_ct2_student(partial)
        export_check.require_same_inputs(expected, check.sentences, exported.tokens)
        agreement = export_check.compare(expected, Ct2Generator(exported, max_length=check.max_length))
        other_type = export_check.OTHER_TYPE.format(option="--quantization")
        fix = other_type if quantization != "float32" else "report it: float32 must be exact"
        what = f"the CTranslate2 model in {quantization}"
        export_check.require(agreement, quantization, check.tolerance, what, fix)
        card = card or Card(out.name)
        write_card(partial / CARD, student, card, "ctranslate2", quantization, agreement, check.source)
    return agreement


def write_ct2(student: Student, directory: Path, quantization: str) -> None:
    """Writes the files of an export to a directory, and does not check them."""
    from fsa_jax.serving.ct2_spec import model_spec

    spec = model_spec(student)
    spec.validate()
    try:
        spec.optimize(quantization=quantization)
    except RuntimeError as error:  # CTranslate2 needs PyTorch for bfloat16
        raise SettingError(
            f"--quantization {quantization}",
            expected="a type that CTranslate2 can write here",
            found=str(error),
            fix="pip install torch==2.13.0 --index-url https://download.pytorch.org/whl/cpu, or --quantization int8",
        ) from error
    spec.save(str(directory))
    tokens = student.tokens
    (directory / TOKENIZER).mkdir()
    if isinstance(tokens, T5Tokenizer):
        shutil.copyfile(tokens.model, directory / TOKENIZER / "spiece.model")
    elif isinstance(tokens, ChatTokenizer):
        tokens.save(directory / TOKENIZER)
    description = {
        "family": student.family.name,
        "decoder_only": tokens.decoder_only,
        "instruction": tokens.instruction if isinstance(tokens, ChatTokenizer) else "",
        "quantization": quantization,
        "rows": student.rows,
        "step": student.step,
    }
    (directory / DESCRIPTION).write_text(json.dumps(description, indent=2) + "\n")
