"""Kills a command at random moments, starts it again, and compares what it wrote with an uninterrupted run.

    python benchmarks/command_kills.py --directory D --kills 20 -- fsa predict MODEL reviews.jsonl {out}/found.jsonl

``{out}`` stands for a folder that the command may fill; it exists and is empty at the start. The command runs once
undisturbed, which gives its running time and its output. Then it is started again and again in a folder of the same
path, and killed (SIGKILL, with all processes that it started) at a moment drawn uniformly from the running time, until
the wanted number of kills has found it running. Where it finishes in between, the output is compared and the next round
begins in an empty folder; at the end it runs to its end, and the output is compared a last time. Two outputs are equal
if they have the same files with the same bytes; ``--exclude`` names files, relative to ``{out}``, that may differ.

The random numbers are drawn from ``--seed``, but where a kill finds the command depends on the machine.
"""

from __future__ import annotations

import argparse
import fnmatch
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path


def contents(folder: Path, exclude: list[str]) -> dict[str, bytes | None]:
    """The files below a folder by relative name; None for a folder, so that an empty one counts too."""
    names = {str(path.relative_to(folder)): path for path in sorted(folder.rglob("*"))}
    return {
        name: path.read_bytes() if path.is_file() else None
        for name, path in names.items()
        if not any(fnmatch.fnmatch(name, pattern) for pattern in exclude)
    }


def differences(expected: dict[str, bytes | None], found: dict[str, bytes | None]) -> list[str]:
    """What differs, a line each."""
    return [
        f"{name}: {'missing' if name not in found else 'not expected' if name not in expected else 'other bytes'}"
        for name in sorted(expected.keys() | found.keys())
        if name not in found or name not in expected or expected[name] != found[name]
    ]


def empty(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)


def main(options: argparse.Namespace) -> int:
    rng = random.Random(options.seed)
    options.directory.mkdir(parents=True, exist_ok=True)
    out, whole, log = (options.directory / name for name in ("out", "whole", "log.txt"))
    command = [part.replace("{out}", str(out)) for part in options.command]

    def start() -> subprocess.Popen[bytes]:
        with log.open("ab") as stream:
            return subprocess.Popen(command, stdout=stream, stderr=stream, start_new_session=True)

    empty(out)
    began = time.monotonic()
    status = start().wait()
    seconds = time.monotonic() - began
    if status != 0:
        print(f"the command ends with {status} even if nothing disturbs it; see {log}", file=sys.stderr)
        return 1
    shutil.rmtree(whole, ignore_errors=True)
    out.rename(whole)
    expected = contents(whole, options.exclude)

    kills, after_output, rounds, already_done, problems = 0, 0, 0, 0, list[str]()
    empty(out)
    while True:
        process = start()
        try:
            # The last start, after all kills, runs to its end.
            process.wait(rng.uniform(0, seconds) if kills < options.kills else None)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            kills += 1
            after_output += any(out.iterdir())
            continue
        found = differences(expected, contents(out, options.exclude))
        # A kill may have come after the last byte was written: then the output is whole, and refused as existing.
        already_done += process.returncode != 0 and not found
        if process.returncode != 0 and found:
            problems.append(f"after {kills} kills: exit status {process.returncode}; see {log}")
        rounds += 1
        problems += [f"after {kills} kills: {line}" for line in found]
        if kills >= options.kills or problems:
            break
        empty(out)
    files = [data for data in expected.values() if data is not None]
    print(
        f"{seconds:.1f} s undisturbed; {kills} kills, {after_output} of them after the command had written something; "
        f"{rounds} outputs of {len(files)} files ({sum(map(len, files)):,} bytes) compared, {already_done} of them "
        f"whole before the last start; {len(problems)} problems"
    )
    for problem in problems[:20]:
        print(f"  {problem}")
    return 1 if problems else 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--directory", type=Path, required=True, help="folder for the outputs and the command's log")
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--exclude", nargs="*", default=[], metavar="GLOB", help="files that may differ")
    parser.add_argument("command", nargs="+", help="after --, with {out} for the folder of its output")
    sys.exit(main(parser.parse_args()))
