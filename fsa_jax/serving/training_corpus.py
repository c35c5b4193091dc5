"""The teacher text that a student was trained on: teachers, prompts and counts, for its model card."""

from __future__ import annotations

import sys
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from fsa_base import untrusted_json
from fsa_base.checkpoint_files import COMMITTED
from fsa_base.errors import DataError, FsaError
from fsa_jax.common.paths import DATA_DIR_VARIABLE, data_dir
from fsa_jax.common.records import UNDERSTANDINGS
from fsa_jax.corpus.statistics import STATISTICS
from fsa_jax.data import teacher_text
from fsa_jax.reviews.dump_rows import expand
from fsa_jax.teacher.generation_requests import DIRECTORY, read_prompt
from fsa_jax.training import run_record

_CORPUS = "sentiment_corpus"
_RESPONSE = "_response"
_OPTION = "to describe it: --corpus DIR"


@dataclass(frozen=True)
class TrainingCorpus:
    """Teacher text that a student was trained on.

    Attributes:
      teachers: names of the teachers.
      prompts: names of prompts that come with fsa_jax, hashes of others.
      rows: number of rows by form (``analysis``, ``rewriting``) and split (``train``, ``validation``).
      reviews: number of different reviews; None if unknown.
      is_known: whether the user or ``fsa train`` named it. Otherwise it is what the data directory has now.
    """

    teachers: tuple[str, ...]
    prompts: tuple[str, ...]
    rows: dict[tuple[str, str], int]
    reviews: int | None
    is_known: bool = True


def is_teacher_text(task: str) -> bool:
    """Whether a SeqIO task of this project has teacher text as its targets."""
    return task.startswith(("fsa_corpus", "fsa_distill", "fsa_chat_distill")) or bool(_forms(task))


def _forms(task: str) -> tuple[str, ...]:
    return tuple(form for form in UNDERSTANDINGS if f"_{form}" in task)


def find_corpus(task: str, checkpoint: Path, given: Path | None) -> TrainingCorpus | None:
    """The teacher text of a training run.

    If the user gives none, this is the text that the task would read now, unless it is newer than the checkpoint: from
    the data directory that ``fsa train`` recorded in MODEL_DIR, otherwise from the present one, because nothing else
    records it. A message says what is used, or why there is none.

    Args:
      task: SeqIO task or mixture of the run.
      checkpoint: a checkpoint of the run.
      given: the corpus, or files in the released layout, as the user gave them.

    Raises:
      FsaError: ``given`` or the record of ``fsa train`` cannot be read.
    """
    forms = _forms(task) or UNDERSTANDINGS
    if given is not None:
        return _read(given, forms)
    recorded = Path(run_record.read(checkpoint.parent).get(DATA_DIR_VARIABLE, ""))
    is_known = recorded.is_absolute() and recorded.is_dir()
    place = _place(recorded if is_known else data_dir(), task)
    try:
        if _changed(place) > _finished(checkpoint):
            reason = "is newer than the checkpoint"
        else:
            found = replace(_read(place, forms), is_known=is_known)
            said = "was trained on" if is_known else "has no record of its data; the card describes"
            print(f"model card: {checkpoint.parent.name} {said} {place}; another: --corpus DIR", file=sys.stderr)
            return found
    except OSError as error:
        reason = "does not exist" if isinstance(error, FileNotFoundError) else str(error.strerror)
    except FsaError as error:
        reason = f"cannot be read ({error.where}: {error.found})"
    print(
        f"model card: without the data of {checkpoint.parent.name}, because {place} {reason}; {_OPTION}",
        file=sys.stderr,
    )
    return None


def _place(root: Path, task: str) -> Path:
    """The text of a task in a data directory; files in the released layout are in ``teacher/``."""
    if not task.startswith("fsa_corpus"):
        return root / "teacher"
    places = (root / "corpus" / _CORPUS, root / _CORPUS)
    return next((place for place in places if place.is_dir()), places[0])


def _changed(place: Path) -> float:
    files = [place / STATISTICS] if (place / STATISTICS).exists() else [place, *place.glob("*.jsonl")]
    return max(file.stat().st_mtime for file in files)


def _finished(checkpoint: Path) -> float:
    # The run may have deleted the checkpoint since then, to keep only the newest ones.
    candidates = (checkpoint / COMMITTED, checkpoint, checkpoint.parent)
    return next(path for path in candidates if path.exists()).stat().st_mtime


def _read(place: Path, forms: tuple[str, ...]) -> TrainingCorpus:
    for folder in (place, place / _CORPUS):
        if (folder / STATISTICS).is_file():
            return _from_statistics(folder / STATISTICS, forms)
    return _from_released(expand(place), forms)


def _from_statistics(file: Path, forms: tuple[str, ...]) -> TrainingCorpus:
    try:
        content: Any = untrusted_json.parse(file.read_bytes())
        parts = [(form, split, part) for form in forms for split, part in content["parts"].get(form, {}).items()]
        rows = {(str(form), str(split)): int(part["rows"]) for form, split, part in parts}
        named: Counter[str] = Counter()
        for _, _, part in parts:
            named.update({str(name): int(count) for name, count in part["teachers"].items()})
        reviews = content.get("reviews") if len(forms) == len(UNDERSTANDINGS) else None
        reviews = None if reviews is None else int(reviews)
    except (untrusted_json.UntrustedJsonError, LookupError, AttributeError, TypeError, ValueError) as error:
        raise DataError(
            file, expected="the statistics of fsa corpus", found=str(error), fix="build the corpus again: fsa corpus"
        ) from error
    split_names = [name.rpartition(" / ") for name, _ in named.most_common()]
    known = {prompt.hash[:12]: prompt.name for prompt in map(read_prompt, sorted(DIRECTORY.glob("*.yaml")))}
    prompts = [known.get(hashed, hashed) for _, _, hashed in split_names]
    return TrainingCorpus(
        teachers=tuple(dict.fromkeys(teacher for teacher, _, _ in split_names if teacher)),
        prompts=tuple(dict.fromkeys(prompt for prompt in prompts if prompt not in ("", "released"))),
        rows=rows,
        reviews=reviews,
    )


def _from_released(files: list[Path], forms: tuple[str, ...]) -> TrainingCorpus:
    rows = teacher_text.index(files).held_out.rows
    return TrainingCorpus(
        teachers=tuple(dict.fromkeys(_teacher(file) for file in files)),
        prompts=(),
        rows={(form, split): count for (split, form), count in sorted(rows.items()) if form in forms and count},
        reviews=None,
    )


def _teacher(file: Path) -> str:
    """The teacher in the name of the column with its text, ``TEACHER_response``."""
    with file.open("rb") as lines:
        first = next(filter(bytes.strip, lines), b"")
    row: Any = untrusted_json.parse(first.removeprefix(b"\xef\xbb\xbf"))
    return next(key.removesuffix(_RESPONSE) for key in row if key.endswith(_RESPONSE))
