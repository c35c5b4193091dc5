"""Turns the rows of the GPU kit into the Markdown tables of benchmarks/RESULTS.md.

python -m benchmarks.kit.tables RESULTS
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.kit import rows

Row = Mapping[str, Any]


def table(header: Sequence[str], body: Sequence[Sequence[str]], numbers_from: int = 1) -> str:
    """A Markdown table; columns from ``numbers_from`` on are aligned to the right."""
    rule = ["---" if at < numbers_from else "---:" for at in range(len(header))]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (header, rule, *body))


def machine(found: Sequence[Row]) -> str:
    """The device, its measured peaks and the versions."""
    parts = {row["part"]: row for row in found}
    lines = []
    if "machine" in parts:
        one = parts["machine"]
        versions = ", ".join(f"{name} {version}" for name, version in one["versions"].items())
        driver = f" ({one['driver']})" if one["driver"] else ""
        lines.append(
            f"{one['device']}{driver}, {one['processor']}, {one['cores']} cores, Python {one['python']}, {versions}"
        )
    if "peak" in parts:
        low, high = parts["peak"]["range"]
        lines.append(
            f"bfloat16 products of random {parts['peak']['width']}² matrices: {parts['peak']['tflops']:.3g} TFLOP/s "
            f"({low:.3g} to {high:.3g}), the peak of the shares below"
        )
    if "bandwidth" in parts:
        low, high = parts["bandwidth"]["range"]
        lines.append(
            f"memory, read and written: {parts['bandwidth']['gigabytes_per_second']:.3g} GB/s ({low:.3g} to {high:.3g})"
        )
    return "  \n".join(lines)


def correctness(found: Sequence[Row]) -> str:
    """Differences from the plain network in float32."""
    body = [
        [
            row["part"],
            f"{row['loss_difference']:.1e}",
            f"{row['gradient_difference']:.1e}",
            f"{row['worst_difference']:.1e} ({row['worst_parameter']})",
            "yes" if row["ok"] else "**no**",
        ]
        for row in found
    ]
    header = ["network", "loss", "all gradients", "parameter that differs most", "as expected"]
    return "Relative differences from the plain network in float32:\n\n" + table(header, body)


def contest(found: Sequence[Row], peak: float | None) -> str:
    """Speeds of training steps; ratios are to the first contender, of turns of the same round."""
    names = list(dict.fromkeys(row["part"] for row in found))
    turns = {name: [row for row in found if row["part"] == name] for name in names}
    first = {(row["group"], row["turn"]): row["examples_per_second"] for row in turns[names[0]]}
    body = []
    for name in names:
        ratios = [
            row["examples_per_second"] / first[row["group"], row["turn"]]
            for row in turns[name]
            if (row["group"], row["turn"]) in first
        ]
        memory = turns[name][-1]["peak_bytes"]
        body.append(
            [
                name,
                _spread(turns[name], "examples_per_second"),
                _spread(turns[name], "tokens_per_second"),
                _median(turns[name], "step_milliseconds", "{:.1f}"),
                _median(turns[name], "real_tflops", "{:.3g}"),
                f"{_of(turns[name], 'real_tflops') / peak:.1%}" if peak else "",
                f"{memory / 2**30:.1f}" if memory else "",
                f"{statistics.median(ratios):.2f}" if ratios else "",
                f"{turns[name][0]['loss']:.4f}",
            ]
        )
    header = [
        "contender",
        "examples/s",
        "real target tokens/s",
        "ms a step",
        "TFLOP/s of real tokens",
        "share of the peak",
    ]
    return table([*header, "peak GiB", f"ratio to {names[0]}", "loss before"], body)


def kernels(found: Sequence[Row]) -> str:
    """The most expensive kernels of a step."""
    texts = []
    for row in found:
        body = [
            [
                f"`{one['kernel']}`",
                one["place"],
                f"{one['milliseconds']:.2f}",
                f"{one['share']:.1%}",
                f"{one['calls']:.0f}",
            ]
            for one in row["top"]
        ]
        header = ["kernel", "place", "ms a step", "share", "runs a step"]
        texts.append(
            f"{row['step']}: {row['milliseconds_from_first_to_last']:.1f} ms a step, without any kernel "
            f"{row['idle_share']:.1%} of the time, {row['kernels']:.0f} kernels a step\n\n{table(header, body, 2)}"
        )
    return "\n\n".join(texts)


def decoding(found: Sequence[Row]) -> str:
    """Speeds of decoding."""
    body = [
        [row["part"], f"{row['examples_per_second']:.4g}", f"{row['tokens_per_second']:.4g}", f"{row['seconds']:.2f}"]
        for row in found
    ]
    return table(["contender", "examples/s", "new tokens/s", "seconds"], body)


WRITERS: Mapping[str, Callable[[Sequence[Row]], str]] = {
    "environment": machine,
    "correctness": correctness,
    "kernels": kernels,
    "decoding": decoding,
}
"""Writers of the slices that are no contests of training steps."""


def markdown(found: Sequence[Row]) -> str:
    """All rows: a part for each slice, with what failed or was left out."""
    peaks = [row["tflops"] for row in found if row["part"] == "peak" and "tflops" in row]
    texts = []
    for name in dict.fromkeys(row["slice"] for row in found):
        of_slice = [row for row in found if row["slice"] == name]
        measured = [row for row in of_slice if "error" not in row and "skipped" not in row]
        texts.append(f"### {name}")
        if measured:
            writer = WRITERS.get(name)
            texts.append(writer(measured) if writer else contest(measured, peaks[-1] if peaks else None))
        for row in of_slice:
            if "error" in row:
                last = row["error"].strip().splitlines()[-1:]
                texts.append(f"**failed**: {row['part'] or name}: {''.join(last)}")
            if "skipped" in row:
                texts.append(f"not measured: {row['part'] or name}: {row['skipped']}")
    return "\n\n".join(texts) + "\n"


def _of(turns: Sequence[Row], unit: str) -> float:
    return statistics.median(turn[unit] for turn in turns)


def _median(turns: Sequence[Row], unit: str, form: str) -> str:
    return form.format(_of(turns, unit))


def _spread(turns: Sequence[Row], unit: str) -> str:
    values = [turn[unit] for turn in turns]
    return f"{_of(turns, unit):.4g} ({min(values):.4g} to {max(values):.4g})"


if __name__ == "__main__":
    print(markdown(rows.read(Path(sys.argv[1]))))
