"""The report of a sample: a JSON file next to it, and tables for the terminal."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from rich.table import Table

from fsa_base.untrusted_json import UntrustedJsonError, parse
from fsa_jax.common.terminal import printable
from fsa_jax.reviews.sample import SampleReport
from fsa_jax.reviews.stars import UNCHANGED
from fsa_jax.reviews.strata import Limit


def report_path(output: Path) -> Path:
    """``reviews.parquet`` → ``reviews.report.json``."""
    return output.with_suffix(".report.json")


def as_json(report: SampleReport, settings: dict[str, Any]) -> dict[str, Any]:
    """The report and the settings for JSON; it has no text of reviews."""
    return {
        "settings": settings,
        "size": report.size,
        "files": {
            name: {
                "rows": losses.read,
                "kept": losses.kept,
                "columns": report.columns[name],
                "stars": [
                    {"scale": scale.name, "rows": rows, "mapped": scale.mapping}
                    for scale, rows in report.stars[name].items()
                ],
                "dropped": dict(losses.dropped.most_common()),
                "fixed": dict(losses.repaired.most_common()),
                "places": losses.places,
            }
            for name, losses in report.losses.items()
        },
        "dropped_candidates": dict(report.dropped_candidates.most_common()),
        "shared_ids": report.shared_ids,
        "strata": [
            {
                "domain": stratum.domain,
                "stars": stratum.stars,
                "implicit": stratum.implicit,
                "asked": asked,
                "fit": report.fit[stratum],
                "taken": report.taken[stratum],
                "limit": report.limits.get(stratum),
            }
            for stratum, asked in sorted(report.asked.items(), key=lambda item: str(item[0]))
        ],
    }


def write(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def read(path: Path) -> dict[str, Any] | None:
    """Reads the output of :func:`write`; None if the file is not a report."""
    try:
        found = parse(path.read_bytes())
    except (OSError, UntrustedJsonError):
        return None
    return found if isinstance(found, dict) and {"settings", "size", "files", "strata"} <= found.keys() else None


def tables(content: dict[str, Any]) -> list[Table]:
    """Tables for the terminal from the result of :func:`as_json`: the files, losses by reason, and the strata."""
    files = Table("file", "rows", "kept", *_MAIN_PARTS, title="Columns found")
    losses = Table("file", "reason", "rows", title="Dropped and fixed")
    for path, file in content["files"].items():
        name = printable(Path(path).name)
        columns = [file["columns"].get(part, _INSTEAD[part]) for part in _MAIN_PARTS]
        files.add_row(name, f"{file['rows']:,}", f"{file['kept']:,}", *columns)
        for kind in ("dropped", "fixed"):
            for reason, count in file[kind].items():
                losses.add_row(name, f"{kind}: {reason}", f"{count:,}")
    for reason, count in content["dropped_candidates"].items():
        if count and reason not in _NOT_DRAWN:
            losses.add_row("all", f"dropped: {reason}", f"{count:,}")
    if content["shared_ids"]:
        losses.add_row("all", "fixed: id of another review, made unique", f"{content['shared_ids']:,}")
    strata = Table("stratum", "fit", "asked", "taken", title=f"Sample of {content['size']:,}")
    for row in content["strata"]:
        parts = [row["domain"], None if row["stars"] is None else f"{row['stars']} stars"]
        parts.append({True: "implicit", False: "explicit", None: None}[row["implicit"]])
        strata.add_row(
            ", ".join(part for part in parts if part) or "all",
            f"{row['fit']:,}",
            f"{row['asked']:,}",
            f"{row['taken']:,}" + _MARKS[row["limit"]],
        )
    return [files, *([losses] if losses.row_count else []), strata]


_MAIN_PARTS = ("id", "text", "stars")
_INSTEAD = {"id": "none: made from the text", "text": "none", "stars": "none"}
_NOT_DRAWN = ("not drawn", "reserve not needed")
"""Reviews that fit and were not needed; the table of the strata shows their number."""


def star_mappings(content: dict[str, Any]) -> list[str]:
    """Lines that say how ratings on other scales were mapped to stars."""
    return [
        f"{printable(Path(path).name)}: stars {used['scale']} mapped to 1-5 ({used['mapped']}), {used['rows']:,} rows"
        for path, file in content["files"].items()
        for used in file["stars"]
        if used["mapped"] != UNCHANGED.mapping
    ]


_MARKS: dict[Limit | None, str] = {None: "", "short": " (short)", "duplicates": " (alike)", "ratio": " (ratio)"}
_MEANINGS: dict[Limit, str] = {
    "short": "strata marked (short) have fewer different reviews than asked",
    "duplicates": "in strata marked (alike), too many candidates were duplicates; another --seed draws others",
    "ratio": "strata marked (ratio) have more reviews, but the ratio is kept; --shortfall fill takes them",
}


def shortfall(content: dict[str, Any]) -> str:
    """Why the sample of :func:`as_json` is smaller than asked."""
    found = {row["limit"] for row in content["strata"]}
    return "; ".join(meaning for limit, meaning in _MEANINGS.items() if limit in found)
