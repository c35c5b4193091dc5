"""Training steps on this machine: ours in several forms, and PyTorch's.

Contenders of a group start and compile at the same time, then train in alternating turns on the same text. Each turn is
a row. One that fails leaves its error, and the others go on.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks._contender import ROOT, STEPS, Contender, ContenderError
from benchmarks.kit.rows import ERROR_CHARACTERS, Slice
from benchmarks.kit.sizes import Packing
from benchmarks.kit.weights import folder_of
from benchmarks.steps import variants
from benchmarks.steps.operations import per_target_token

WARM_UP = 2
READY = 0.7
"""Share of the time left in which contenders must be ready, so that a slow one does not cost the others theirs."""


@dataclass(frozen=True)
class Entry:
    """A contender to be.

    Args:
      name: its name in the rows.
      folder: weights, configuration and tokens.
      script: script in benchmarks/steps.
      arguments: arguments of the script.
      variables: additions to its environment.
    """

    name: str
    folder: Path
    script: str
    arguments: Sequence[str]
    variables: Mapping[str, str] = field(default_factory=dict)


def ours(
    run: Slice, name: str, packing: Packing, size: str, fields: Mapping[str, Any] | None = None, **variables: str
) -> Entry:
    """Our T5 with these fields of its configuration."""
    folder = folder_of(run, "t5", size, packing.data)
    values = [str(folder), packing.packing, str(packing.rows), str(ROOT), "--dtype", run.size.dtype]
    return Entry(name, folder, "jax_step.py", [*values, "--fields", json.dumps(dict(fields or {}))], variables)


def decoder(run: Slice, name: str, size: str, fields: Mapping[str, Any] | None = None) -> Entry:
    """Our decoder-only model with these fields of its configuration."""
    folder = folder_of(run, "decoder", size, "decoder")
    values = [str(folder), "best_fit", str(run.size.decoder_rows), str(ROOT), "--dtype", run.size.dtype]
    return Entry(name, folder, "jax_step.py", [*values, "--fields", json.dumps(dict(fields or {}))])


def torch(run: Slice, name: str, folder: Path, examples: int, *arguments: str) -> Entry:
    """PyTorch with ``examples`` in a backward pass."""
    values = [str(folder), str(examples), "--device", backend(), "--dtype", run.size.dtype, *arguments]
    return Entry(name, folder, "torch_step.py", values)


def tuned(run: Slice, name: str, folder: Path, examples: int) -> Entry:
    """PyTorch compiled, with batches of similar lengths."""
    size = run.size
    return torch(run, name, folder, examples, "--tuned", str(size.shapes), "--compiler", size.compiler)


def backend() -> str:
    """PyTorch's name of the device. JAX is not asked, because it would hold memory of the device."""
    there = Path("/dev/nvidiactl").exists() or shutil.which("nvidia-smi")
    return "cuda" if there and os.environ.get("JAX_PLATFORMS") != "cpu" else "cpu"


def fast_path(run: Slice, network: str) -> tuple[str, str, str]:
    """What decides which switches can be used."""
    return network, run.size.dtype, "gpu" if backend() == "cuda" else "cpu"


def step(run: Slice) -> list[list[Entry]]:
    """The recipe's step: ours in several packings, the released recipe, and PyTorch tuned."""
    size, (first, *others) = run.size, run.size.packings
    folder = folder_of(run, "t5", size.model, first.data)
    examples, passes = size.recipe
    everything = variants.everything(*fast_path(run, "t5"))
    main_group = [
        ours(run, f"ours, {first.name}", first, size.model),
        ours(run, f"ours with all switches, {first.name}", first, size.model, everything),
        torch(run, f"transformers, {examples} x {passes}", folder, examples, "--accumulate", str(passes)),
        tuned(run, f"PyTorch tuned, {size.tuned}", folder, size.tuned),
    ]
    return [main_group, [ours(run, f"ours, {packing.name}", packing, size.model) for packing in others]]


def switches(run: Slice) -> list[list[Entry]]:
    """Our step with no switch of the fast path, with all, and with only one."""
    size, packing = run.size, run.size.packings[0]
    where = fast_path(run, "t5")
    forms = {"none": variants.PLAIN, "all": variants.everything(*where)}
    if size.each_switch:
        forms |= {f"only {name}": fields for name, fields in variants.switches(*where).items()}
    return in_groups([ours(run, name, packing, size.model, fields) for name, fields in forms.items()])


def decoders(run: Slice) -> Iterator[list[Entry]]:
    """Decoder-only models: ours and PyTorch tuned. The weights of each are made before it starts."""
    everything = variants.everything(*fast_path(run, "llama"))
    for size in run.size.decoders:
        plain = decoder(run, f"ours, {size}", size)
        switched = decoder(run, f"ours with all switches, {size}", size, everything)
        yield [plain, switched, tuned(run, f"PyTorch tuned, {size}", plain.folder, run.size.decoder_examples)]


XLA_FLAGS: Mapping[str, str] = {
    "no Triton products": "--xla_gpu_enable_triton_gemm=false",
    "all tilings": "--xla_gpu_exhaustive_tiling_search=true",
    "no command buffers": "--xla_gpu_enable_command_buffer=",
    "atomics without FTZ": "--xla_backend_extra_options=-nvptx-allow-ftz-atomics",
}
"""Flags that may help on one GPU, or that show what a default gives."""


def flags(run: Slice) -> list[list[Entry]]:
    """Our step with flags of XLA."""
    packing = run.size.packings[0]
    chosen = XLA_FLAGS if backend() == "cuda" else {"no fast math": "--xla_cpu_enable_fast_math=false"}
    given = os.environ.get("XLA_FLAGS", "")
    entries = [ours(run, "default flags", packing, run.size.model)]
    for name, flag in chosen.items():
        entries.append(ours(run, name, packing, run.size.model, XLA_FLAGS=f"{given} {flag}".strip()))
    return in_groups(entries)


def small(run: Slice) -> list[list[Entry]]:
    """The small T5, ours and PyTorch tuned; and the memory of our step by its rows."""
    size, first = run.size, run.size.packings[0]
    folder = folder_of(run, "t5", size.small, first.data)
    entries = [
        ours(run, f"ours small, {first.name}", first, size.small),
        tuned(run, f"PyTorch tuned small, {size.tuned}", folder, size.tuned),
    ]
    for rows in size.memory_rows:
        packing = Packing(first.data, first.packing, rows)
        entries.append(ours(run, f"ours, {packing.name}", packing, size.model))
    return in_groups(entries)


def in_groups(entries: Sequence[Entry], count: int = 3) -> list[list[Entry]]:
    """Groups that fit into the device's memory; each begins with the first entry, with which others are compared."""
    first, *others = entries
    return [[first, *others[at : at + count - 1]] for at in range(0, len(others), count - 1)]


CONTESTS: Mapping[str, Callable[[Slice], Iterable[list[Entry]]]] = {
    "step": step,
    "switches": switches,
    "decoder": decoders,
    "flags": flags,
    "small": small,
}


def compete(run: Slice, entries: Sequence[Entry], group: int) -> None:
    """Lets a group train in alternating turns, and writes a row for every turn."""
    ready = time.time() + READY * run.left()
    alive: dict[Contender, Entry] = {}
    for entry in entries:
        command = [str(STEPS / entry.script), *entry.arguments]
        one = Contender(entry.name, command, device=backend(), variables=entry.variables, until=ready)
        alive[one] = entry

    def attempt(one: Contender, action: Callable[[], Any]) -> None:
        try:
            action()
        except ContenderError as error:
            run.row(one.name, error=str(error)[-ERROR_CHARACTERS:])
            one.close()
            del alive[one]

    for _ in range(WARM_UP):
        for one in list(alive):
            attempt(one, lambda one=one: one.ask(0))
        for one in list(alive):
            attempt(one, one.take)
    for number in range(run.size.rounds):
        order = list(alive)
        first = number % max(1, len(order))
        for one in (*order[first:], *order[:first]):
            if number and run.left() <= 0:
                break
            one.until = run.until
            attempt(one, lambda one=one: one.train(run.size.turn))
            if one in alive:
                run.row(one.name, group=group, turn=number, loss=one.loss, **measured(one, alive[one]))
    for one in alive:
        one.close()


def measured(contender: Contender, entry: Entry) -> dict[str, Any]:
    """The last turn of a contender, with the operations per second that its real tokens need."""
    turn = contender.turns[-1]
    operations = per_target_token(entry.folder)
    return {
        **turn,
        "step_milliseconds": 1e3 * turn["seconds"] / turn["steps"],
        "real_tflops": turn["tokens_per_second"] * operations / 1e12,
    }


def main() -> None:
    """Writes the rows of the slice."""
    run = Slice.from_command_line(__doc__)
    for number, entries in enumerate(CONTESTS[run.name](run)):
        if run.left() <= 0:
            run.row(", ".join(entry.name for entry in entries), skipped="no time left")
        else:
            compete(run, entries, number)


if __name__ == "__main__":
    main()
