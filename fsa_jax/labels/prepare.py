"""Converts labels to the project's own layout: ``OUT/fsa/CODEC/NAME/{train,dev,test}.json``, which all else reads."""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fsa_base import checksums, untrusted_json
from fsa_base.errors import DataError, SettingError, require_choice
from fsa_jax.common.atomic_directory import only_files, written_aside
from fsa_jax.common.paths import shown
from fsa_jax.common.records import LabelledAspect, LabelledSentence
from fsa_jax.labels.checks import CheckedLabel, CheckedSentence
from fsa_jax.labels.dataset import OwnLabels, read_labels
from fsa_jax.labels.formats import DOCS
from fsa_jax.labels.sources import SPLITS, files_of
from fsa_jax.text.tuples import CODECS

REPORT = "labels.json"
"""The report beside the files of a prepared dataset. It is written last."""
VERSION = 1
"""Raised when the same files would give other sentences."""
_COMMAND = "fsa labels"
_FILES = tuple(f"{part}.json" for part in SPLITS)
_LONGEST_NAME = 60


@dataclass(frozen=True)
class PreparedLabels:
    """Labels in the project's layout.

    Attributes:
      root: the data directory, for ``FSA_DATA_DIR`` or ``--data``.
      dataset: the dataset in it, such as ``tasd/my_reviews``.
      report: content of ``labels.json``: what was read, counts, checksums and the seed of the split.
      reused: whether they were prepared before from the same content.
    """

    root: Path
    dataset: str
    report: Mapping[str, Any]
    reused: bool

    @property
    def folder(self) -> Path:
        """The folder with ``train.json``, ``dev.json``, ``test.json`` and the report."""
        return self.root / "fsa" / self.dataset


def prepare(
    source: Path, out: Path, *, seed: int = 0, codec: str | None = None, lenient: bool = False, overwrite: bool = False
) -> PreparedLabels:
    """Reads labels of any known format and writes them to ``out``, unless the same content was written there before.

    Args:
      source: a file or folder of labels (docs/labels.md).
      out: a data directory; only its folder ``fsa/CODEC/NAME`` is written, completely or not at all.
      seed: random seed of the split, if the dataset has none.
      codec: ``atsa`` (terms), ``acsa`` (categories), ``tasd`` (both) or ``asqp`` (with opinion words); by default the
        one with the most parts that all labels have.
      lenient: see :func:`fsa_jax.labels.dataset.read_labels`.
      overwrite: whether to replace labels of this name that were prepared from other content.

    Raises:
      DataError: a file cannot be used; names it, and the line where there is one.
      SettingError: the labels do not have what ``codec`` needs, or ``out`` has other labels of this name.
    """
    if codec is not None:
        require_choice("--task-form", codec, CODECS, "{setting} {choice}")
    name = name_of(source)
    key = content_key(source, seed, codec, lenient)
    for chosen in [codec] if codec else CODECS:
        found = _prepared(out, f"{chosen}/{name}", key)
        if found is not None:
            return found
    labels = read_labels(source, seed=seed, lenient=lenient)
    chosen = codec or codec_of(labels)
    dataset = f"{chosen}/{name}"
    rows = _rows(labels, chosen)
    report = _report(labels, source, chosen, key, lenient)
    folder = out / "fsa" / dataset
    with written_aside(
        folder,
        command=_COMMAND,
        settings={"key": key},
        foreign=only_files(REPORT, *_FILES, marks=(REPORT,)),
        inputs=[source],
        overwrite=overwrite,
    ) as partial:
        for part, sentences in rows.items():
            content = json.dumps(sentences, ensure_ascii=False, indent=1) + "\n"
            (partial / f"{part}.json").write_text(content, encoding="utf-8")
        report["written"] = {file: checksums.file_digest(partial / file) for file in _FILES}
        (partial / REPORT).write_text(json.dumps(report, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    return PreparedLabels(out, dataset, report, reused=False)


def read_report(folder: Path) -> dict[str, Any] | None:
    """The report of a prepared dataset; None if the folder has none that is whole."""
    try:
        report = untrusted_json.parse((folder / REPORT).read_bytes())
        written = report["written"]
        whole = all(checksums.file_digest(folder / file) == written[file] for file in _FILES)
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return report if whole else None


def content_key(source: Path, seed: int, codec: str | None, lenient: bool) -> str:
    """What the content of a prepared dataset depends on, as 16 hexadecimal digits; not the place of the files."""
    files, _ = files_of(source)
    try:
        digests = {part: checksums.file_digest(path) for part, path in files.items()}
    except OSError as error:
        raise DataError(
            shown(source), expected="files that can be read", found=str(error), fix="check their access rights"
        ) from error
    content = [VERSION, digests, seed if len(files) < len(SPLITS) else None, codec, lenient, name_of(source)]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]


def name_of(source: Path) -> str:
    """The name of a dataset: that of its file or folder, with only letters, digits and underscores.

    Names of one or two letters, such as ``en``, and those that only say ``train``, get the name of the folder above.
    """
    path = Path(source).resolve()
    # A folder may have dots in its name; a file may have several suffixes (train.txt.atepc).
    own = path.name.split(".")[0] if path.is_file() else path.name
    name = _word(own)
    if len(name) <= 2 or name in ("data", "label", "labels", "raw", *SPLITS):
        name = "_".join(filter(None, (_word(path.parent.name), name)))
    return name[:_LONGEST_NAME].strip("_") or "labels"


def _word(name: str) -> str:
    return re.sub(r"\W+", "_", name.lower(), flags=re.ASCII).strip("_")


def codec_of(labels: OwnLabels) -> str:
    """The codec with the most parts that all labels have.

    If there is none, as in SemEval 2014, where terms and categories do not belong together, it is that of the terms,
    unless there are less than half as many of them as categories.
    """
    fits = Counter(
        codec
        for sentences in labels.parts.values()
        for sentence in sentences
        for label in sentence.labels
        for codec in CODECS
        if _fits(label, codec)
    )
    total = sum(len(sentence.labels) for sentences in labels.parts.values() for sentence in sentences)
    complete = [codec for codec in CODECS if fits[codec] == total]
    if complete:
        return complete[-1]
    return "atsa" if 2 * fits["atsa"] >= fits["acsa"] else "acsa"


def _fits(label: CheckedLabel, codec: str) -> bool:
    parts = CODECS[codec].parts
    return (
        (label.has_target or "target" not in parts)
        and (label.aspect.category is not None or "category" not in parts)
        and (label.aspect.opinion_words is not None or "opinion_words" not in parts)
    )


def _rows(labels: OwnLabels, codec: str) -> dict[str, list[dict[str, Any]]]:
    """The sentences of each part as the project's files have them, with the labels that the codec can write.

    An id that is there twice gets a number, because scores are kept by id.
    """
    used: set[str] = set()
    times: Counter[str] = Counter()
    rows: dict[str, list[dict[str, Any]]] = {}
    for part in SPLITS:
        rows[part] = []
        for sentence in labels.parts[part]:
            identity = wanted = sentence.id or f"{part}-{sentence.line}"
            while identity in used:
                times[wanted] += 1
                identity = f"{wanted}#{times[wanted] + 1}"
            used.add(identity)
            aspects = [_aspect(label.aspect) for label in sentence.labels if _fits(label, codec)]
            rows[part].append({"ID": identity, "sentence": sentence.text, "aspects": aspects})
    return rows


def _aspect(aspect: LabelledAspect) -> dict[str, Any]:
    row: dict[str, Any] = {"target": aspect.target, "category": aspect.category, "polarity": aspect.polarity}
    if aspect.target is not None:
        row |= {"from": aspect.start, "to": aspect.end}
    if aspect.opinion_words is not None:
        row["opinion_words"] = list(aspect.opinion_words)
    return row


def _report(labels: OwnLabels, source: Path, codec: str, key: str, lenient: bool) -> dict[str, Any]:
    left_out = Counter(
        "labels without a part that the task form needs"
        for sentences in labels.parts.values()
        for sentence in sentences
        for label in sentence.labels
        if not _fits(label, codec)
    )
    counts = {part: _counts(labels.parts[part], codec) for part in SPLITS}
    if not counts["train"]["labels"] or not counts["dev"]["labels"]:
        has = " and ".join(part for part in ("train", "dev") if not counts[part]["labels"])
        raise SettingError(
            f"--task-form {codec}",
            expected=f"labels with {', '.join(CODECS[codec].parts)}",
            found=f"none in {has} of {shown(source)}",
            fix=f"choose another form, or see {DOCS}",
        )
    return {
        "key": key,
        "version": VERSION,
        "source": shown(source),
        "files": {
            part: {"name": shown(Path(path.name)), "sha256": labels.checksums()[part]}
            for part, path in labels.files.items()
        },
        "formats": list(labels.formats),
        "task_form": codec,
        "lenient": lenient,
        "split": {
            "made": list(labels.made),
            "seed": labels.seed if labels.made else None,
            "near_identical": labels.groups,
        },
        "counts": counts,
        "changed_or_left_out": {**labels.counts, **left_out},
        "also_in_train": labels.in_several_parts,
        "other_files": [shown(Path(name)) for name in labels.other_files],
    }


def _counts(sentences: list[CheckedSentence], codec: str) -> dict[str, Any]:
    kept = [[label.aspect for label in sentence.labels if _fits(label, codec)] for sentence in sentences]
    aspects = [aspect for found in kept for aspect in found]
    unreadable = sum(
        len(CODECS[codec].unreadable(LabelledSentence(id="", text=sentence.text, aspects=tuple(found))))
        for sentence, found in zip(sentences, kept, strict=True)
    )
    return {
        "sentences": len(sentences),
        "without_labels": sum(not found for found in kept),
        "labels": len(aspects),
        "without_term": sum(aspect.target is None for aspect in aspects) if "target" in CODECS[codec].parts else None,
        "with_separators": unreadable,
        "polarities": dict(sorted(Counter(aspect.polarity for aspect in aspects).items())),
        "categories": len({aspect.category for aspect in aspects if aspect.category}),
    }


def _prepared(out: Path, dataset: str, key: str) -> PreparedLabels | None:
    report = read_report(out / "fsa" / dataset)
    if report is None or report.get("key") != key:
        return None
    return PreparedLabels(out, dataset, report, reused=True)
