"""The model card (README) of an exported student: description, training data and scores."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jinja2

import fsa_jax
from fsa_jax.common.training_engine import installed_engine
from fsa_jax.serving.export_check import Agreement
from fsa_jax.serving.student import Student, read_json

NOT_SAID = "not said"


@dataclass(frozen=True)
class Card:
    """User-supplied content of a model card; ``scores`` maps tasks to metrics to values."""

    name: str
    data: str = NOT_SAID
    teacher: str = NOT_SAID
    recipe: str = NOT_SAID
    license: str = "apache-2.0"
    scores: dict[str, dict[str, float]] = field(default_factory=dict)


def _commit() -> str:
    """The commit of this code in a git checkout, otherwise its version."""
    root = Path(fsa_jax.__file__).parents[1]
    try:
        run = subprocess.run(
            ["git", "-C", str(root), "rev-parse", "HEAD"], capture_output=True, text=True, check=True, timeout=10
        )
        return run.stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return f"version {fsa_jax.__version__}"


def write_card(file: Path, student: Student, card: Card, dtype: str, agreement: Agreement, check_source: str) -> None:
    """Writes the model card."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent), trim_blocks=True, lstrip_blocks=True, autoescape=False
    )
    engine = installed_engine()
    origin: dict[str, Any] = read_json(student.hf_files.parent / "import.json") if student.hf_files else {}
    file.write_text(
        environment.get_template("model_card.md.j2").render(
            card=card,
            student=student,
            parameters=_count(student.parameters),
            origin=origin,
            dtype=dtype,
            agreement=agreement,
            check_source=Path(check_source).name,
            engine=f"{engine.distribution} {engine.version}" if engine else "none installed at export",
            commit=_commit(),
            version=fsa_jax.__version__,
        ),
        encoding="utf-8",
    )


def _count(tree: dict[str, Any]) -> int:
    return sum(_count(value) if isinstance(value, dict) else value.size for value in tree.values())
