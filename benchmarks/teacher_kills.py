"""Kills ``fsa teach`` again and again, then checks that the store holds every generation exactly once.

    python benchmarks/teacher_kills.py --directory /tmp/kills                 # 5,000 requests, 40 SIGKILLs
    python benchmarks/teacher_kills.py --directory /tmp/faults --faults       # with errors of the server

A kill comes at a random moment: at most half a second after the job has stored its first row, or, one time in four,
while the job is starting and cleaning up. After the last kill the job runs to the end (with --faults: with
--retry-failed, until there are no failures). Exits with status 1 unless every request is stored exactly once,
undamaged, and with the text that the server gave.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

from teacher_server import MODEL, completion

from fsa_jax.common.records import Review
from fsa_jax.teacher.generation_requests import RequestMaker, SamplingSettings, Teacher, engine_seed, load_prompt
from fsa_jax.teacher.store.reader import StoreReader
from fsa_jax.teacher.store.shard_files import Shard, contents

FAULTS = ["--fail=0.1", "--limit=0.05", "--stall=0.01", "--broken=0.05", "--cut=0.05"]


def reviews(count: int) -> list[Review]:
    return [
        Review(id=f"r{i}", text=f"Visit {i}: the soup was lovely, but we waited {i % 90} minutes.", stars=3)
        for i in range(count)
    ]


def stored_bytes(folder: Path) -> int:
    """Size of all journals and parts; it changes with the first row that a job stores."""
    return sum(path.stat().st_size for path in folder.glob("[jp]*") if path.exists())


def job(options: argparse.Namespace, source: Path, store: Path, port: str, *extra: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "fsa_jax.cli.main", "teach", str(source), str(store), MODEL]
    command += ["--endpoint", f"http://127.0.0.1:{port}/v1", "--prompts", '["analysis"]', "--in-flight=32"]
    command += ["--request-timeout=3", "--max-attempts=2"] if options.faults else []
    log = (options.directory / "job.log").open("ab")
    return subprocess.Popen([*command, *extra], stdout=log, stderr=log)


def kill_once(rng: random.Random, process: subprocess.Popen[bytes], folder: Path, startup: float) -> tuple[bool, float]:
    """Kills a job at a random moment; returns whether it was still running, and the seconds until its first row."""
    began = time.monotonic()
    if startup and rng.random() < 0.25:
        time.sleep(rng.uniform(0, startup))
    else:
        size = stored_bytes(folder)
        while process.poll() is None and stored_bytes(folder) <= size:
            time.sleep(0.005)
        startup = time.monotonic() - began
        time.sleep(rng.uniform(0, 0.5))
    alive = process.poll() is None
    process.kill()
    process.wait()
    return alive, startup


def check(store: Path, expected: list[Review], faults: bool) -> list[str]:
    """Descriptions of problems with the store; empty if there are none."""
    maker = RequestMaker(Teacher(MODEL, None, SamplingSettings()), [load_prompt("analysis")])
    requests = {request.key: request for review in expected for request in maker.requests(review)}
    problems = []
    attempts = Counter(row.key for shard in StoreReader(store).attempts_by_shard() for row in shard)
    rows = list(StoreReader(store))
    keys = Counter(row.key for row in rows)
    if len(rows) != len(requests) or set(keys) != set(requests):
        missing, foreign = len(requests.keys() - keys.keys()), len(keys.keys() - requests.keys())
        problems.append(f"{len(rows)} rows, {missing} missing, {foreign} foreign")
    if duplicates := sum(count - 1 for count in (keys if faults else attempts).values()):
        problems.append(f"{duplicates} duplicates")
    for row in rows:
        request = requests.get(row.key)
        if request is None:
            continue
        seed = engine_seed(row.key, row.attempt)
        text = "\n".join(message["content"] for message in request.prompt.messages(request.text))
        if row.text != completion({"seed": seed}, text)["choices"][0]["message"]["content"]:
            problems.append(f"{row.review_id}: {row.failure or 'another text than the server gave'}")
    return problems


def main(options: argparse.Namespace) -> int:
    rng = random.Random(options.seed)
    options.directory.mkdir(parents=True, exist_ok=True)
    source, store = options.directory / "reviews.jsonl", options.directory / "store"
    asked = reviews(options.reviews)
    source.write_text("".join(json.dumps(review.model_dump()) + "\n" for review in asked))
    faults = FAULTS if options.faults else []
    script = str(Path(__file__).with_name("teacher_server.py"))
    server = subprocess.Popen(
        [sys.executable, script, f"--latency={options.latency}", *faults], stdout=subprocess.PIPE, text=True
    )
    assert server.stdout is not None
    port = server.stdout.readline().strip()
    folder = store / Shard().folder
    kills, startup, runs = 0, 0.0, 0
    try:
        while kills < options.kills:
            alive, startup = kill_once(rng, job(options, source, store, port), folder, startup)
            if not alive:
                print(f"the job ended after {kills} kills: raise --latency so that it runs longer", file=sys.stderr)
                return 1
            kills += 1
        before = sum(1 for _ in StoreReader(store)) if folder.is_dir() else 0
        retry = ["--retry-failed"] if options.faults else []
        while runs < 10:
            runs += 1
            status = job(options, source, store, port, *retry).wait()
            if status != 0:
                print((options.directory / "job.log").read_text()[-2000:], file=sys.stderr)
                return 1
            if not any(row.failure for row in StoreReader(store)):
                break
    finally:
        server.terminate()
        server.wait()
    problems = check(store, asked, options.faults)
    failures = sum(row.failure is not None for shard in StoreReader(store).attempts_by_shard() for row in shard)
    print(
        f"{kills} kills, then {before:,} of {options.reviews:,} stored; {runs} more runs; {failures:,} failures on the "
        f"way; {len(contents(folder).parts)} parts; {len(problems)} problems"
    )
    for problem in problems[:20]:
        print(f"  {problem}")
    return 1 if problems else 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--directory", type=Path, required=True, help="new folder for input, store and log")
    parser.add_argument("--reviews", type=int, default=5000)
    parser.add_argument("--kills", type=int, default=40)
    parser.add_argument("--latency", type=float, default=0.15, help="mean response time of the server in seconds")
    parser.add_argument(
        "--faults", action="store_true", help="use a server with errors, time-outs, broken and cut answers"
    )
    parser.add_argument("--seed", type=int, default=0)
    sys.exit(main(parser.parse_args()))
