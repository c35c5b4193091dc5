"""What a data directory contains to train on, and the layout in which the tasks look for it (docs/data.md)."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path

from fsa_base.errors import MissingDataError
from fsa_jax.common.paths import shown
from fsa_jax.data import benchmark_files, own_labels

FORMS = ("analysis", "rewriting")


@dataclass(frozen=True)
class FoundData:
    """The content of a data directory.

    Attributes:
      root: the directory for ``FSA_DATA_DIR``.
      corpus: forms of the text in the corpus of ``fsa corpus``; empty without a corpus.
      teacher_files: number of files of teacher text in the papers' layout.
      labels: FSA datasets with training and dev sentences, such as ``atsa/rest14``.
      vocabulary: T5's SentencePiece model in this directory; None if there is none.
    """

    root: Path
    corpus: tuple[str, ...]
    teacher_files: int
    labels: tuple[str, ...]
    vocabulary: Path | None

    def __str__(self) -> str:
        parts = [f"a corpus ({' and '.join(self.corpus)})"] if self.corpus else []
        parts += [f"teacher text ({self.teacher_files} of teacher/*.jsonl)"] if self.teacher_files else []
        parts += [f"labelled sentences ({', '.join(self.labels)})"] if self.labels else []
        return f"in {shown(self.root)}: {', '.join(parts)}"

    @property
    def mixture(self) -> str | None:
        """The task or mixture of the teacher text; a corpus comes before the papers' layout. None without any."""
        if self.corpus:
            return "fsa_corpus" if len(self.corpus) == len(FORMS) else f"fsa_corpus_{self.corpus[0]}"
        return "fsa_distill" if self.teacher_files else None


def find(directory: Path) -> FoundData:
    """Looks for a corpus, teacher text and labels in a directory; no file is read.

    The directory may also be one of the parts: ``data/corpus`` with ``sentiment_corpus`` in it, ``sentiment_corpus``
    itself, ``data/teacher`` or ``data/fsa``.

    Raises:
      MissingDataError: there is none of them.
    """
    if not directory.is_dir():
        raise MissingDataError(
            f"--data {shown(directory)}",
            expected="a folder",
            found="a file" if directory.exists() else "nothing",
            fix="give the output folder of fsa corpus, or a folder with the layout of docs/data.md",
        )
    root = _root(Path(os.path.abspath(directory)) if directory.name in ("", "..") else directory)
    corpora = [root / "corpus" / "sentiment_corpus", root / "sentiment_corpus"]
    corpus = next((path for path in corpora if path.is_dir()), None)
    forms = tuple(form for form in FORMS if corpus is not None and (corpus / form).is_dir())
    found = FoundData(
        root,
        forms,
        len(list((root / "teacher").glob("*.jsonl"))),
        tuple(benchmark_files.label_sets(root)),
        _vocabulary(root),
    )
    if not (found.corpus or found.teacher_files or found.labels):
        names = sorted(path.name for path in directory.iterdir())
        listed = ", ".join(names[:8]) + (", …" if len(names) > 8 else "")
        raise MissingDataError(
            f"--data {shown(directory)}",
            expected="sentiment_corpus/ (output of fsa corpus), teacher/*.jsonl (the papers' layout) or "
            "fsa/{atsa,acsa,tasd,asqp}/NAME/{train,dev}.json (labelled sentences)",
            found=listed.encode("utf-8", "replace").decode() or "an empty folder",
            fix="fsa corpus CHECKED DIR builds a corpus from the output of fsa check, or from teacher text; then give "
            "--data DIR",
        )
    return found


def find_for_task(directory: Path, task: str | None) -> tuple[FoundData, str | None]:
    """Looks for data like :func:`find`; the task may also be the path of labels in any format.

    Args:
      directory: the data directory.
      task: the word of ``--task``, None without one.

    Returns:
      The data, and the task. If it was a path, the data are those of the prepared labels, with the vocabulary of
      ``directory``, and the task is their name (``tasd/my_reviews``).

    Raises:
      FsaError: there are no data, or the labels cannot be used.
    """
    if task is None or not _is_path(task) or own_labels.labels_of(task, benchmark_files.label_sets(_root(directory))):
        return find(directory), task
    root, dataset = own_labels.resolve_task(task, _root(directory))
    found = find(root)
    vocabulary = _vocabulary(_root(directory))
    return replace(found, vocabulary=vocabulary or found.vocabulary), dataset


def _is_path(task: str) -> bool:
    """Whether a word is a path. Tasks of tasks.py begin with ``fsa_``, and are not."""
    return "/" in task or os.sep in task or (not task.startswith("fsa_") and Path(task).exists())


def _vocabulary(root: Path) -> Path | None:
    vocabulary = root / "t5_vocab" / "spiece.model"
    return vocabulary if vocabulary.is_file() else None


def _root(directory: Path) -> Path:
    if directory.name == "sentiment_corpus" and any((directory / form).is_dir() for form in FORMS):
        directory = directory.parent
    if directory.name == "corpus" and (directory / "sentiment_corpus").is_dir():
        return directory.parent
    if directory.name == "teacher" and any(directory.glob("*.jsonl")):
        return directory.parent
    if directory.name == "fsa" and any((directory / kind).is_dir() for kind in benchmark_files.KINDS):
        return directory.parent
    return directory
