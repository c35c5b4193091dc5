"""``fsa teach`` on a real disk that fills up: a small tmpfs; needs the right to mount one."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from server_process import ServerProcess
from stored_rows import MODEL, reviews

from fsa_jax.teacher.store.reader import StoreReader
from fsa_jax.teacher.store.shard_files import Shard, contents

REVIEWS = 1200


def test_a_full_disk_stops_the_job_and_loses_nothing(
    mount_disk: Callable[[str], Path], tmp_path: Path, serve: Callable[..., ServerProcess]
):
    small_disk = mount_disk("300k")  # REVIEWS generations need about three times as much
    source, store, server = tmp_path / "reviews.jsonl", small_disk / "store", serve()
    source.write_text("".join(review.model_dump_json() + "\n" for review in reviews(REVIEWS)))
    command = [sys.executable, "-m", "fsa_jax.cli.main", "teach", str(source), str(store), MODEL]
    command += ["--endpoint", server.url, "--prompts", '["analysis"]', "--in-flight", "8"]
    subprocess.run([*command, "--limit", "100"], check=True)
    (part,) = contents(store / Shard().folder).parts
    before = part.path.read_bytes()
    for _ in range(2):  # a second run on the full disk does no harm
        run = subprocess.run(command, capture_output=True, text=True)
        assert run.returncode == 2 and "Traceback" not in run.stderr
        assert "no space left" in run.stderr and "free disk space" in run.stderr
        assert part.path.read_bytes() == before
        rows = list(StoreReader(store))
        assert 100 < len(rows) == len({row.key for row in rows}) < REVIEWS and all(row.text for row in rows)
    subprocess.run(["mount", "-o", "remount,size=8m", str(small_disk)], check=True)
    subprocess.run(command, check=True)
    rows = list(StoreReader(store))
    assert len(rows) == len({row.key for row in rows}) == REVIEWS and all(row.text for row in rows)
    # Only the requests in flight when the disk was full are sent again.
    assert server.counts()["requests"] <= REVIEWS + 2 * 8
