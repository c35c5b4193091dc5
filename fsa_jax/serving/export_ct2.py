"""A student as a CTranslate2 model directory."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from fsa_jax.aside import only_files, written_aside
from fsa_jax.errors import SettingError
from fsa_jax.serving import self_check
from fsa_jax.serving.ct2 import DESCRIPTION, TOKENIZER, Ct2Generator, import_ctranslate2, load_ct2_student
from fsa_jax.serving.export_hf import Check
from fsa_jax.serving.student import Student
from fsa_jax.serving.tokenization import ChatTokenization, T5Tokenization

QUANTIZATIONS = tuple(self_check.TOLERANCES)


_FOREIGN = only_files(
    "model.bin",
    "config.json",
    "*vocabulary.json",
    "*vocabulary.txt",
    f"{TOKENIZER}/*",
    DESCRIPTION,
    marks=[DESCRIPTION],
)


def export_ct2(
    student: Student, out: Path, *, quantization: str, check: Check, overwrite: bool = False
) -> self_check.Agreement:
    """Writes ``out`` with a CTranslate2 model, its tokenizer and ``student.json``, after CTranslate2 has run it.

    Args:
      student: to export.
      out: a directory that does not exist, is empty, or with ``overwrite`` an earlier export.
      quantization: of the weights, one of ``QUANTIZATIONS``.
      check: how it is compared.
      overwrite: replace an earlier export.

    Returns:
      How the exported model compares.

    Raises:
      SettingError: an unknown quantization, ``out`` cannot be written, or CTranslate2 is not installed.
      CheckpointError: the exported model differs by more than the tolerance. What was at ``out`` stays as it was then.
    """
    if quantization not in QUANTIZATIONS:
        raise SettingError(
            "--quantization", expected=" or ".join(QUANTIZATIONS), found=repr(quantization), fix="--quantization int8"
        )
    import_ctranslate2()
    from fsa_jax.serving.ct2_spec import model_spec

    with written_aside(
        out,
        command="fsa export-ct2",
        settings={"checkpoint": str(student.path), "quantization": quantization},
        foreign=_FOREIGN,
        inputs=[student.path],
        overwrite=overwrite,
    ) as partial:
        spec = model_spec(student)
        spec.validate()
        spec.optimize(quantization=quantization)
        spec.save(str(partial))
        tokens = student.tokens
        (partial / TOKENIZER).mkdir()
        if isinstance(tokens, T5Tokenization):
            shutil.copyfile(tokens.model, partial / TOKENIZER / "spiece.model")
        elif isinstance(tokens, ChatTokenization):
            tokens.template.save(partial / TOKENIZER)
        description = {
            "family": student.family.name,
            "decoder_only": tokens.decoder_only,
            "instruction": tokens.template.instruction if isinstance(tokens, ChatTokenization) else "",
            "quantization": quantization,
            "rows": student.rows,
            "step": student.step,
        }
        (partial / DESCRIPTION).write_text(json.dumps(description, indent=2) + "\n")
        expected = self_check.reference(student, check.sentences, check.max_length)
        agreement = _compare(partial, student, expected, check.max_length)
        tolerance = self_check.TOLERANCES[quantization] if check.tolerance is None else check.tolerance
        fix = "export with --quantization float32, or accept more with --tolerance"
        self_check.require(agreement, tolerance, f"the CTranslate2 model in {quantization}", fix)
    return agreement


def _compare(
    directory: Path, student: Student, expected: self_check.Reference, max_length: int
) -> self_check.Agreement:
    exported = load_ct2_student(directory)
    generator = Ct2Generator(exported, max_length=max_length)
    outputs = [ids for ids, _ in generator(expected.inputs)]
    return self_check.compare(expected, outputs, generator.score(expected.inputs, expected.outputs))
