"""The report of a sample: one JSON file beside it, and tables for the terminal."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from rich.table import Table

from fsa_jax.sampling.sample import SampleReport


def report_path(output: Path) -> Path:
    """``reviews.parquet`` → ``reviews.report.json``."""
    return output.with_suffix(".report.json")


def as_json(report: SampleReport, settings: dict[str, Any]) -> dict[str, Any]:
    """Everything in the report, with the settings that it came from; it holds no review's text."""
    return {
        "settings": settings,
        "size": report.size,
        "files": {
            name: {
                "rows": losses.read,
                "dropped": dict(losses.dropped.most_common()),
                "fixed": dict(losses.repaired.most_common()),
                "places": losses.places,
            }
            for name, losses in report.losses.items()
        },
        "dropped_candidates": dict(report.dropped_candidates.most_common()),
        "strata": [
            {
                "domain": stratum.domain,
                "stars": stratum.stars,
                "implicit": stratum.implicit,
                "asked": asked,
                "fit": report.fit[stratum],
                "taken": report.taken[stratum],
            }
            for stratum, asked in sorted(report.asked.items(), key=lambda item: str(item[0]))
        ],
    }


def write(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def tables(content: dict[str, Any]) -> list[Table]:
    """What to show of :func:`as_json`: losses by reason, and the strata."""
    losses = Table("what", "rows", title="Dropped and fixed")
    for name, file in content["files"].items():
        losses.add_row(f"{Path(name).name}: read", f"{file['rows']:,}")
        for kind in ("dropped", "fixed"):
            for reason, count in file[kind].items():
                losses.add_row(f"  {kind}: {reason}", f"{count:,}")
    for reason, count in content["dropped_candidates"].items():
        losses.add_row(f"candidates: {reason}", f"{count:,}")
    strata = Table("stratum", "fit", "asked", "taken", title=f"Sample of {content['size']:,}")
    for row in content["strata"]:
        parts = [row["domain"], None if row["stars"] is None else f"{row['stars']} stars"]
        parts.append({True: "implicit", False: "explicit", None: None}[row["implicit"]])
        short = row["taken"] < row["asked"]
        strata.add_row(
            ", ".join(part for part in parts if part) or "all",
            f"{row['fit']:,}",
            f"{row['asked']:,}",
            f"{row['taken']:,}" + (" (short)" if short else ""),
        )
    return [losses, strata]
