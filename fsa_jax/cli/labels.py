"""``fsa labels``: shows what is read from labels of one's own, and converts them."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal


def command(
    source: Path,
    out: Path | None = None,
    task_form: Literal["atsa", "acsa", "tasd", "asqp"] | None = None,
    seed: int = 0,
    examples: int = 3,
    lenient: bool = False,
    overwrite: bool = False,
) -> None:
    """Reads labelled sentences of any known format (docs/labels.md) and shows format, parts, counts and examples.

    fsa train --task SOURCE reads them in the same way; with --out they are converted, to look at or to share.

    Args:
      source: a file, or a folder with files whose names have train, dev (or val) and test; parts without a file are
        taken from train.
      out: data directory to write to, as OUT/fsa/FORM/NAME; by default nothing is written.
      task_form: atsa (term, polarity), acsa (category, polarity), tasd (term, category, polarity) or asqp (these and
        opinion words); by default the one with the most parts that all labels have.
      seed: random seed of the parts that are taken from train.
      examples: number of sentences to show.
      lenient: whether labels whose term is not in their sentence, and lines of #### files that cannot be read, are left
        out and counted; otherwise the first one is an error.
      overwrite: whether to replace labels of this name in OUT that were converted from other content.

    Example:
      fsa labels my_reviews.csv
      fsa labels Restaurants_Train_v2.xml --task-form acsa --out data
    """
    from fsa_base.errors import require_number
    from fsa_jax.labels.prepare import prepare

    require_number("--examples", examples, 0, whole=True)
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary) if out is None else out
        prepared = prepare(source, root, seed=seed, codec=task_form, lenient=lenient, overwrite=overwrite)
        _show(prepared.report, prepared.dataset)
        _show_examples(prepared.folder / "train.json", prepared.dataset.split("/")[0], examples)
    if out is not None:
        what = "was there before, from the same content" if prepared.reused else "written"
        _print(f"{prepared.folder}: {what}")
        _print(f"next: fsa train --data {out} --task {prepared.dataset} --student NAME --from STUDENT")
    else:
        _print(f"next: fsa train --task {source} --student NAME --from STUDENT; --out DIR writes them")


def _print(text: str) -> None:
    """Prints text that may quote untrusted files or paths."""
    from fsa_jax.common.terminal import console, printable

    console().print(printable(text), soft_wrap=True)


def _show(report: Mapping[str, Any], dataset: str) -> None:
    from rich.table import Table

    from fsa_jax.common.terminal import console, printable
    from fsa_jax.text.tuples import CODECS

    form = report["task_form"]
    _print(f"format: {', '.join(report['formats'])}; form: {form} ({', '.join(CODECS[form].parts)}); name: {dataset}")
    table = Table("part", "file", "sentences", "without labels", "labels", "without term", "polarities", "categories")
    for part, counts in report["counts"].items():
        made = part in report["split"]["made"]
        file = f"from train, seed {report['split']['seed']}" if made else report["files"][part]["name"]
        polarities = ", ".join(f"{count:,} {name}" for name, count in counts["polarities"].items())
        numbers = [counts[name] for name in ("sentences", "without_labels", "labels", "without_term")]
        cells = ["" if number is None else f"{number:,}" for number in numbers]
        table.add_row(part, printable(file), *cells, polarities, str(counts["categories"] or ""))
    console().print(table)
    for what, count in report["changed_or_left_out"].items():
        _print(f"{count:,} {what}")
    separators = sum(counts["with_separators"] for counts in report["counts"].values())
    if separators:
        _print(f"{separators:,} labels cannot be written as targets, because they have ';' or '|' in them")
    for part, count in report["also_in_train"].items():
        _print(f"{count:,} sentences of {part} are also in train (they stay in both)")
    if report["other_files"]:
        _print(f"not read: {', '.join(report['other_files'][:8])}{' …' if len(report['other_files']) > 8 else ''}")


def _show_examples(train: Path, form: str, number: int) -> None:
    from fsa_jax.data import benchmark_files
    from fsa_jax.text.tuples import CODECS

    for sentence in benchmark_files.load(train)[:number]:
        _print(f"  {_short(sentence.text)}\n    {_short(CODECS[form].encode(sentence)) or '(no labels)'}")


def _short(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= 300 else f"{text[:300]}…"
