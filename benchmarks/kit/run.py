"""Runs the slices of the GPU kit, in order of their worth, within a budget of time.

    bash run.sh --out RESULTS [--seconds 540] [--slices environment,step] [--size full]

Every slice is a process with a limit of its own. One that fails, or is stopped at its limit, leaves the rows that it
measured, and a row with the end of what it said; the next one starts. RESULTS gets ``rows.jsonl`` (as they are
measured), ``log.txt`` (what all processes said) and ``results.md`` (the rows as tables).
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import os
import signal
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.kit import rows, tables
from benchmarks.kit.sizes import SIZES

KIT = Path(__file__).resolve().parents[2]
LOG_BYTES = 8 * 2**20
"""The log keeps its end."""
STOPPING = 5.0
"""Seconds between the moment at which a slice should end and that at which it is killed."""


SLICES: Mapping[str, tuple[str, float]] = {
    "environment": ("device", 60),
    "correctness": ("correctness", 150),
    "step": ("contests", 300),
    "kernels": ("kernels", 90),
    "switches": ("contests", 270),
    "decoder": ("contests", 270),
    "decoding": ("decoding", 120),
    "flags": ("contests", 120),
    "small": ("contests", 120),
}
"""Module and seconds at most of every slice; the most valuable first. Together they take 25 minutes at most."""
WEIGHTLESS = {"environment", "correctness"}
"""Slices that need no weights of a whole model. These are made while they run."""


def main() -> None:
    """Runs the slices."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder of the results; later runs add to it")
    parser.add_argument("--seconds", type=float, default=1_500, help="of all slices together")
    parser.add_argument("--slices", type=lambda text: text.split(","), default=list(SLICES), help=",".join(SLICES))
    parser.add_argument("--size", choices=SIZES, default="full")
    options = parser.parse_args()
    if unknown := [name for name in options.slices if name not in SLICES]:
        parser.error(f"no slice {', '.join(unknown)}; there are {', '.join(SLICES)}")
    out = options.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    run_slices(options.slices, out, options.size, time.time() + options.seconds)
    text = tables.markdown(rows.read(out))
    (out / "results.md").write_text(text, "utf-8")
    print(text)


def run_slices(names: Sequence[str], out: Path, size: str, ends: float) -> None:
    """Runs the slices until ``ends`` (a time of ``time.time()``); no process outlives them."""
    # Nobody needs weights, traces and compiled programs later, and they would not fit into the results.
    with tempfile.TemporaryDirectory(prefix="gpu_kit-") as scratch, (out / "log.txt").open("a+b") as log:
        environment = child_environment(Path(scratch))

        def start(module: str, name: str, until: float) -> subprocess.Popen[bytes]:
            command = [sys.executable, "-P", "-m", f"benchmarks.kit.{module}", name, "--size", size, "--out", str(out)]
            command += ["--data", str(KIT / "tokens"), "--scratch", scratch, "--until", str(until)]
            log.write(f"\n$ {' '.join(command)}\n".encode())
            log.flush()
            return subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)

        making = start("weights", "weights", ends) if {*names, *WEIGHTLESS} > WEIGHTLESS else None
        for name in names:
            module, limit = SLICES[name]
            began = time.time()
            until = min(began + limit, ends - STOPPING)
            if until < began + rows.RESERVE:
                rows.write(out, {"slice": name, "part": "", "skipped": "no time left"})
                continue
            position = log.seek(0, os.SEEK_END)
            reason = finish(start(module, name, until), until + STOPPING)
            if reason:
                log.seek(position)
                said = log.read().decode(errors="replace")[-rows.ERROR_CHARACTERS :]
                rows.write(out, {"slice": name, "part": "", "error": f"{reason}: {said}"})
            print(f"{name}: {time.time() - began:.0f} s{', failed' if reason else ''}", flush=True)
        if making:
            finish(making, 0)
    keep_end(out / "log.txt")


def finish(process: subprocess.Popen[bytes], until: float) -> str | None:
    """Waits for a process until ``until``, ends it and what it has left; returns why it failed, if it did."""
    try:
        code = process.wait(max(0.0, until - time.time()))
        return f"ended with {code}" if code else None
    except subprocess.TimeoutExpired:
        return "stopped at its limit of time"
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def child_environment(scratch: Path) -> dict[str, str]:
    """The environment of the slices: the packages that this machine lacks, and a cache of compiled programs."""
    missing = [wheel for wheel in sorted((KIT / "wheels").glob("*.whl")) if not is_installed(wheel)]
    # Contenders are scripts, which find `turns` beside them; a slice that imports one needs its folder.
    paths = [KIT / "benchmarks" / "steps", *missing, os.environ.get("PYTHONPATH", "")]
    return os.environ | {
        "PYTHONPATH": os.pathsep.join(map(str, paths)),
        "PYTHONUNBUFFERED": "1",
        "JAX_COMPILATION_CACHE_DIR": os.environ.get("JAX_COMPILATION_CACHE_DIR", str(scratch / "compiled")),
        # Many contenders compile the same small programs, too.
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        # Contenders share the device's memory, so none may take most of it at its start.
        "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
    }


def is_installed(wheel: Path) -> bool:
    """Whether this Python finds every package of a wheel."""
    with zipfile.ZipFile(wheel) as archive:
        names = {name.split("/")[0] for name in archive.namelist() if ".dist-info/" not in name}
    return all(importlib.util.find_spec(name.removesuffix(".py")) for name in names)


def keep_end(log: Path) -> None:
    """Cuts the beginning of a log that is too long."""
    content = log.read_bytes()
    if len(content) > LOG_BYTES:
        log.write_bytes(content[-LOG_BYTES:])


if __name__ == "__main__":
    main()
