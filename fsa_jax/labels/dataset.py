"""Reads a labelled dataset from a file or folder: its parts, checked, with a count of all that was left out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from fsa_base import checksums
from fsa_base.errors import DataError
from fsa_jax.common.paths import shown
from fsa_jax.common.records import Polarity
from fsa_jax.labels.checks import CheckedSentence, Checker, polarities_of
from fsa_jax.labels.formats import DOCS, FORMATS, LabelFile, read_file, unusable
from fsa_jax.labels.raw import UnusableLabels
from fsa_jax.labels.sources import SPLITS, files_of
from fsa_jax.labels.splits import near_identical_groups, split_groups
from fsa_jax.text.words import normalise

HELD_OUT = 0.1
"""Share of the sentences for dev, and for test, where the dataset has no such file."""
_LENIENT = "correct the file, or leave such labels out: fsa labels PATH --lenient --out DIR"


@dataclass(frozen=True)
class OwnLabels:
    """A labelled dataset.

    Attributes:
      files: the file of each part as given; a single file is ``train``.
      formats: titles of the formats of the files.
      parts: the sentences of ``train``, ``dev`` and ``test``.
      made: the parts that were taken from ``train`` by the seed; empty if there is a file for each.
      seed: the seed.
      groups: number of groups of near-identical sentences with more than one, in the part that was split.
      counts: what was left out or changed, by a few fixed words.
      in_several_parts: number of sentences of dev and test whose words are also in ``train``; they stay.
      other_files: names of files in the folder that were not read.
    """

    files: dict[str, Path]
    formats: tuple[str, ...]
    parts: dict[str, list[CheckedSentence]]
    made: tuple[str, ...]
    seed: int
    groups: int
    counts: dict[str, int]
    in_several_parts: dict[str, int]
    other_files: list[str] = field(default_factory=list)

    def checksums(self) -> dict[str, str]:
        """SHA-256 of each file."""
        return {part: checksums.file_digest(path) for part, path in self.files.items()}


def read_labels(source: Path, *, seed: int = 0, lenient: bool = False) -> OwnLabels:
    """Reads a dataset and makes the parts that it lacks.

    Args:
      source: a file, or a folder with files for training and perhaps dev and test.
      seed: random seed of the split.
      lenient: whether labels whose term is not in their sentence, and lines of ``####`` files that cannot be read, are
        left out and counted, and wrong offsets searched anew; otherwise the first one is an error.

    Raises:
      DataError: a file cannot be used; names it, and the line where there is one.
    """
    files, other_files = files_of(source)
    found = {part: read_file(path, lenient) for part, path in files.items()}
    counts: Counter[str] = Counter()
    checker = Checker(_polarities(files, found), lenient)
    parts: dict[str, list[CheckedSentence]] = {}
    for part, file in found.items():
        counts.update(file.notes)
        parts[part] = []
        for raw in file.sentences:
            if raw.unlabelled:
                counts[raw.unlabelled] += 1
                continue
            try:
                parts[part].append(checker.sentence(raw))
            except UnusableLabels as error:
                raise unusable(files[part], error, _LENIENT) from None
        if not any(sentence.labels for sentence in parts[part]):
            raise DataError(
                shown(files[part]),
                expected="labelled sentences",
                found=f"{len(file.sentences):,} sentences without a label",
                fix=f"give the file with the labels ({DOCS})",
            )
    counts.update(checker.counts)
    missing = tuple(part for part in SPLITS if part not in parts)
    groups = _make(parts, missing, seed, files["train"]) if missing else 0
    return OwnLabels(
        files,
        tuple(dict.fromkeys(FORMATS[file.format].title for file in found.values())),
        {part: parts[part] for part in SPLITS},
        missing,
        seed,
        groups,
        {what: counts[what] for what in sorted(counts)},
        _overlaps(parts),
        other_files,
    )


def _polarities(files: dict[str, Path], found: dict[str, LabelFile]) -> Mapping[str, Polarity]:
    words = {
        label.polarity
        for file in found.values()
        for sentence in file.sentences
        for label in sentence.labels
        if label.polarity is not None
    }
    try:
        return polarities_of(words)
    except UnusableLabels as error:
        place = next(iter(files.values()))
        raise unusable(place, error, "write the polarities as words") from None


def _make(parts: dict[str, list[CheckedSentence]], missing: tuple[str, ...], seed: int, path: Path) -> int:
    """Takes the missing parts from ``train``; returns the number of groups of near-identical sentences in it."""
    sentences = parts["train"]
    texts = [sentence.text for sentence in sentences]
    groups = near_identical_groups(texts)
    shares = [1 - HELD_OUT * len(missing), *(HELD_OUT for _ in missing)]
    labelled = [bool(sentence.labels) for sentence in sentences]
    chosen = split_groups(groups, texts, labelled, shares, seed)
    for number, part in enumerate(("train", *missing)):
        parts[part] = [sentence for sentence, at in zip(sentences, chosen, strict=True) if at == number]
        if not any(sentence.labels for sentence in parts[part]):
            raise DataError(
                shown(path),
                expected=f"enough different sentences with labels to take {' and '.join(missing)} from",
                found=f"{len(set(groups)):,}, too few with labels",
                fix=f"give files for {', '.join(('train', *missing))}, or more sentences",
            )
    return sum(size > 1 for size in Counter(groups).values())


def _overlaps(parts: dict[str, list[CheckedSentence]]) -> dict[str, int]:
    training = {normalise(sentence.text) for sentence in parts["train"]}
    found = {
        part: sum(normalise(sentence.text) in training for sentence in parts[part])
        for part in SPLITS
        if part != "train"
    }
    return {part: count for part, count in found.items() if count}
