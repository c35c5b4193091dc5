"""The model card (README) of an exported student: description, training, scores, and how to use it.

Everything in it comes from the student, from its run and from the user. What is unknown is left out.
"""

from __future__ import annotations

import shlex
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import jinja2

import fsa_jax
from fsa_jax.common.markdown import escaped
from fsa_jax.common.training_engine import installed_engine
from fsa_jax.serving.export_check import Agreement
from fsa_jax.serving.prediction_record import TASKS
from fsa_jax.serving.student import Student
from fsa_jax.serving.training_record import Score, TrainingRecord
from fsa_jax.tokenizers.chat import TEMPLATE_ARGUMENTS, ChatTokenizer
from fsa_jax.weights import t5
from fsa_jax.weights.hub import is_repository

CARD = "README.md"
Library = Literal["transformers", "ctranslate2"]


@dataclass(frozen=True)
class Card:
    """Content of a model card that does not come from the student.

    Args:
      name: name of the model.
      data: training data, in place of what the run recorded.
      teacher: teacher, in place of those of the corpus.
      recipe: training recipe, in place of the settings of the run.
      license: license of the weights; by default that of T5, Apache 2.0, and none for other families.
      datasets: ids on the Hub of the training data.
      repository: id on the Hub to which the export is uploaded.
      folder: folder of the export, which the examples use if there is no repository; by default ``name``.
      record: what the run recorded.
    """

    name: str
    data: str | None = None
    teacher: str | None = None
    recipe: str | None = None
    license: str | None = None
    datasets: tuple[str, ...] = ()
    repository: str | None = None
    folder: str | None = None
    record: TrainingRecord = field(default_factory=TrainingRecord)


def write_card(
    file: Path, student: Student, card: Card, library: Library, dtype: str, agreement: Agreement, check_source: str
) -> None:
    """Writes the model card.

    Args:
      file: output file.
      student: exported student.
      card: further content.
      library: library that loads the export.
      dtype: dtype or quantization of the weights.
      agreement: result of the comparison with the JAX student.
      check_source: description of the sentences of that comparison.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters["escaped"] = escaped
    environment.filters["quoted"] = lambda text: shlex.quote(" ".join(text.splitlines()))
    engine = installed_engine()
    tokens = student.tokens
    text = environment.get_template("model_card.md.j2").render(
        front_matter=_front_matter(student, card, library),
        card=card,
        record=card.record,
        student=student,
        library=library,
        parameters=_count(student.parameters),
        dtype=dtype,
        agreement=agreement,
        check_source=Path(check_source).name,
        engine=f"{engine.distribution} {engine.version}" if engine else "",
        commit=_commit(),
        version=fsa_jax.__version__,
        task=_task(card.record, agreement),
        where=card.repository or card.folder or card.name,
        template_arguments="".join(f", {name}={value!r}" for name, value in TEMPLATE_ARGUMENTS.items()),
        instruction=tokens.instruction if isinstance(tokens, ChatTokenizer) else "",
    )
    file.write_text(text, encoding="utf-8")


def _front_matter(student: Student, card: Card, library: Library) -> str:
    """The metadata that the Hub reads, as YAML."""
    from huggingface_hub import EvalResult, ModelCardData

    pipeline = "text-generation" if student.tokens.decoder_only else "text2text-generation"
    base, revision = (card.record.started_from.get(name) for name in ("source", "revision"))
    results = [_result(score, pipeline, EvalResult) for score in card.record.scores]
    data = ModelCardData(
        language="en",
        license=card.license or ("apache-2.0" if student.family is t5.FAMILY else None),
        library_name=library,
        pipeline_tag=pipeline,
        tags=["sentiment-analysis", "aspect-based-sentiment-analysis", "distillation"],
        base_model=base if revision and is_repository(str(base)) else None,
        datasets=list(card.datasets) or None,
        model_name=card.name if results else None,
        eval_results=results or None,
    )
    return data.to_yaml()


def _result(score: Score, pipeline: str, make: Any) -> Any:
    return make(
        task_type=pipeline,
        dataset_type=score.task,
        dataset_name=score.task,
        dataset_split=score.split or None,
        metric_type=score.metric,
        metric_value=round(score.value, 4),
    )


def _task(record: TrainingRecord, agreement: Agreement) -> str:
    """The task of ``fsa predict`` for this student."""
    trained = record.stages[-1].task if record.stages else ""
    # The first one: the name of a dataset may contain another.
    found = [task for task in TASKS if f"_{task}" in trained]
    named = min(found, key=lambda task: trained.index(f"_{task}"), default=None)
    return named or ("atsa" if agreement.answers == "pairs" else "analysis")


def _commit() -> str:
    """The commit of this code in a git checkout, and whether files differ from it; otherwise nothing."""
    root = Path(fsa_jax.__file__).parents[1]
    if not (root / ".git").exists():
        return ""
    try:
        commit = _git(root, "rev-parse", "HEAD")
        return f"{commit} with local changes" if _git(root, "status", "--porcelain", "--untracked-files=no") else commit
    except (OSError, subprocess.SubprocessError):
        return ""


def _git(root: Path, *words: str) -> str:
    run = subprocess.run(
        ["git", "--no-optional-locks", "-C", str(root), *words], capture_output=True, text=True, check=True, timeout=10
    )
    return run.stdout.strip()


def _count(tree: dict[str, Any]) -> int:
    return sum(_count(value) if isinstance(value, dict) else value.size for value in tree.values())
