"""Kills a command at random moments, starts it again, and compares what it wrote with an uninterrupted run.

    python benchmarks/command_kills.py --directory D --kills 20 -- fsa predict MODEL reviews.jsonl {out}/found.jsonl

``{out}`` stands for the output folder of the command; it exists and is empty at the start. The command first runs once
without kills, which gives its running time and its output. Then it is started again and again with a folder of the same
path, and killed (SIGKILL, with all its processes) at a moment that is drawn uniformly from the running time, until the
wanted number of kills has hit a running command. If it finishes meanwhile, the output is compared, and the next round
starts with an empty folder. At last it runs to the end, and the output is compared again. Two outputs are equal if they
have the same files with the same bytes; ``--exclude`` names files, relative to ``{out}``, that may differ.

The random moments depend on ``--seed``, but the state of the command at that moment depends on the machine.
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
    """The content of all files below a folder by relative name; None for a folder, so that empty folders count too."""
    names = {str(path.relative_to(folder)): path for path in sorted(folder.rglob("*"))}
    return {
        name: path.read_bytes() if path.is_file() else None
        for name, path in names.items()
        if not any(fnmatch.fnmatch(name, pattern) for pattern in exclude)
    }


def differences(expected: dict[str, bytes | None], found: dict[str, bytes | None]) -> list[str]:
    """A line for each difference."""
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
        print(f"the command ends with status {status} even without kills; see {log}", file=sys.stderr)
        return 1
    shutil.rmtree(whole, ignore_errors=True)
    out.rename(whole)
    expected = contents(whole, options.exclude)

    kills, after_output, rounds, already_done, problems = 0, 0, 0, 0, list[str]()
    empty(out)
    while True:
        process = start()
        try:
            # The last start, after all kills, runs to the end.
            process.wait(rng.uniform(0, seconds) if kills < options.kills else None)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            kills += 1
            after_output += any(out.iterdir())
            continue
        found = differences(expected, contents(out, options.exclude))
        # If a kill came after the last byte was written, the output is complete, and the next start refuses it as
        # existing.
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
        f"{seconds:.1f} s without kills; {kills} kills, {after_output} of them after the command had written a file; "
        f"{rounds} outputs of {len(files)} files ({sum(map(len, files)):,} bytes) compared, {already_done} of them "
        f"complete before the last start; {len(problems)} problems"
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
    parser.add_argument("command", nargs="+", help="command after --, with {out} for its output folder")
    sys.exit(main(parser.parse_args()))
