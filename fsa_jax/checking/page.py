"""The report of a check as one HTML page that works offline. Reviews and teacher text are untrusted: all is escaped."""

from __future__ import annotations

import jinja2

from fsa_jax.checking.assess import CheckSettings
from fsa_jax.checking.plots import plots
from fsa_jax.checking.statistics import Statistics


def render(statistics: Statistics, settings: CheckSettings, source: str) -> str:
    """The HTML of the page.

    Args:
      statistics: results of the check.
      settings: thresholds of the check.
      source: description of what was checked.
    """
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("fsa_jax.checking", "."), autoescape=True, undefined=jinja2.StrictUndefined
    )
    verdicts, rows = statistics.verdicts(), statistics.rows
    reasons = statistics.reasons()
    return environment.get_template("page.html.j2").render(
        source=source,
        figures=[
            ("generations", f"{rows:,}"),
            ("kept as they are", _with_share(verdicts["keep"], rows)),
            ("kept after repair", _with_share(verdicts["repair"], rows)),
            ("dropped", _with_share(verdicts["drop"], rows)),
            ("targets not in their review", _share(statistics.grounding["absent"], sum(statistics.grounding.values()))),
        ],
        teachers=[
            {
                "teacher": teacher,
                "understanding": understanding,
                "prompt_hash": prompt[:12],
                "rows": f"{tally.rows:,}",
                **{verdict: f"{tally.verdicts[verdict]:,}" for verdict in ("keep", "repair", "drop")},
                "opinions": f"{tally.opinions:,}",
                "hallucination": "" if tally.hallucination_rate is None else f"{tally.hallucination_rate:.3f}",
                "inventions": _share(tally.with_inventions, tally.checked),
            }
            for (teacher, understanding, prompt), tally in sorted(statistics.tallies.items())
        ],
        plots=plots(statistics),
        losses=[
            (what, reason, f"{count:,}")
            for what, counts in (
                ("not read", statistics.skipped),
                ("review not used", statistics.unused_reviews),
                ("dropped", reasons),
                ("repaired", statistics.repairs()),
            )
            for reason, count in counts.most_common()
        ],
        worst=statistics.worst,
        by_reason=[(reason, f"{count:,}", statistics.by_reason[reason]) for reason, count in reasons.most_common()],
        settings=", ".join(f"{name} {value}" for name, value in settings.model_dump().items()),
    )


def _share(part: int, whole: int) -> str:
    return f"{part / whole:.1%}" if whole else "none checked"


def _with_share(part: int, whole: int) -> str:
    return f"{part:,} ({part / whole:.1%})" if whole else f"{part:,}"
