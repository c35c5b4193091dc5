"""What a data directory contains to train on, and the layout in which the tasks look for it (docs/data.md)."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from fsa_base.errors import MissingDataError
from fsa_jax.common.paths import shown
from fsa_jax.data import benchmark_files

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
    vocabulary = root / "t5_vocab" / "spiece.model"
    found = FoundData(
        root,
        forms,
        len(list((root / "teacher").glob("*.jsonl"))),
        tuple(benchmark_files.label_sets(root)),
        vocabulary if vocabulary.is_file() else None,
    )
    if not (found.corpus or found.teacher_files or found.labels):
        names = sorted(path.name for path in directory.iterdir())
        listed = ", ".join(names[:8]) + (", …" if len(names) > 8 else "")
        raise MissingDataError(
            f"--data {shown(directory)}",
            expected="sentiment_corpus/ (output of fsa corpus), teacher/*.jsonl (the papers' layout) or "
            "fsa/{atsa,acsa}/NAME/{train,dev}.json (labelled sentences)",
            found=listed.encode("utf-8", "replace").decode() or "an empty folder",
            fix="fsa corpus CHECKED DIR builds a corpus from the output of fsa check, or from teacher text; then give "
            "--data DIR",
        )
    return found


def _root(directory: Path) -> Path:
    if directory.name == "sentiment_corpus" and any((directory / form).is_dir() for form in FORMS):
        directory = directory.parent
    if directory.name == "corpus" and (directory / "sentiment_corpus").is_dir():
        return directory.parent
    if directory.name == "teacher" and any(directory.glob("*.jsonl")):
        return directory.parent
    if directory.name == "fsa" and ((directory / "atsa").is_dir() or (directory / "acsa").is_dir()):
        return directory.parent
    return directory
