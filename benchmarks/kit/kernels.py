"""Where the time of our training step goes: the ten most expensive kernels of a profile.

The profile itself stays on the machine. Kernels are put together if they have the same name but for numbers, and belong
to the same place in the network; so the layers of a stack are one line.
"""

from __future__ import annotations

import re
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax

from benchmarks._contender import ROOT
from benchmarks.kit.rows import Slice
from benchmarks.kit.weights import folder_of
from benchmarks.steps import jax_step

STEPS, WARM_UP, SHOWN = 3, 2, 10
STREAM = re.compile(r"Stream #")
"""Lines of a GPU's plane with one event for each kernel; its other lines sum them up."""


class Kernel(NamedTuple):
    """One run of a kernel."""

    name: str
    instruction: str
    start: float
    seconds: float


def kernels(folder: Path) -> Iterator[Kernel]:
    """The kernels in a profile: those of the GPU, or on a CPU the instructions of the compiled program."""
    (file,) = folder.rglob("*.xplane.pb")
    planes = list(jax.profiler.ProfileData.from_file(str(file)).planes)
    devices = [plane for plane in planes if plane.name.startswith("/device:GPU")]
    for plane in devices or planes:
        for line in plane.lines:
            if devices and not STREAM.match(line.name or ""):
                continue
            for event in line.events:
                instruction = dict(event.stats).get("hlo_op")
                if instruction or devices:
                    start, seconds = event.start_ns / 1e9, event.duration_ns / 1e9
                    yield Kernel(event.name or "", str(instruction or ""), start, seconds)


def places(program: str) -> dict[str, str]:
    """The place in the network of every instruction of a compiled program, without numbers of layers."""
    found = re.findall(r'^\s*(?:ROOT )?%?([\w.-]+) = .*metadata={[^}]*op_name="([^"]*)"', program, re.MULTILINE)
    return {instruction: shorter(place) for instruction, place in found}


def shorter(place: str) -> str:
    """``jit(f)/transpose(jvp(Transformer))/decoder/layers_3/mlp/dot_general`` → ``backward decoder/layers/mlp/…``."""
    direction = "backward " if "transpose(" in place else ""
    parts = [re.sub(r"_\d+$", "", part) for part in place.split("/") if "(" not in part]
    return direction + "/".join(parts)


def reduced(found: list[Kernel], program: str, steps: int) -> dict[str, Any]:
    """The most expensive kernels per step, and the share of the time in which none ran."""
    where = places(program)
    total: dict[tuple[str, str], list[float]] = defaultdict(list)
    for kernel in found:
        name = re.sub(r"[._]\d+", "", kernel.name)
        # Kernels that CUDA replays as a graph do not say their instruction, but a fusion's kernel has its name.
        named = re.sub(r"_(\d+)$", r".\1", kernel.name)
        total[name, where.get(kernel.instruction) or where.get(named, "")].append(kernel.seconds)
    first, last = min(one.start for one in found), max(one.start + one.seconds for one in found)
    busy = covered(found)
    ranked = sorted(total.items(), key=lambda item: -sum(item[1]))[:SHOWN]
    all_seconds = sum(one.seconds for one in found)
    return {
        "milliseconds_from_first_to_last": 1e3 * (last - first) / steps,
        "idle_share": 1 - busy / (last - first),
        "kernels": len(found) / steps,
        "top": [
            {
                "kernel": name[:120],
                "place": place[-120:],
                "milliseconds": 1e3 * sum(times) / steps,
                "share": sum(times) / all_seconds,
                "calls": len(times) / steps,
            }
            for (name, place), times in ranked
        ],
    }


def covered(found: list[Kernel]) -> float:
    """Seconds in which at least one kernel ran."""
    seconds = end = 0.0
    for one in sorted(found, key=lambda kernel: kernel.start):
        stop = one.start + one.seconds
        if stop > end:
            seconds += stop - max(one.start, end)
            end = stop
    return seconds


def profile(run: Slice) -> dict[str, Any]:
    """Profiles a few steps of the first packing."""
    size, packing = run.size, run.size.packings[0]
    folder = folder_of(run, "t5", size.model, packing.data)
    training = jax_step.Training(folder, packing.packing, packing.rows, ROOT, {"dtype": size.dtype})
    for _ in range(WARM_UP):
        training.step()
    training.wait()
    traces = run.scratch / "profile"
    began = time.perf_counter()
    with jax.profiler.trace(str(traces)):
        for _ in range(STEPS):
            training.step()
        training.wait()
    seconds = (time.perf_counter() - began) / STEPS
    found = list(kernels(traces))
    return {"step": packing.name, "profiled_step_milliseconds": 1e3 * seconds} | reduced(
        found, training.program(), STEPS
    )


def main() -> None:
    """Writes the rows of the slice."""
    run = Slice.from_command_line(__doc__)
    run.measure("training step", lambda: profile(run))


if __name__ == "__main__":
    main()
