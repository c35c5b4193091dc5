from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from stored_rows import reviews, row

from fsa_base.errors import MissingDataError
from fsa_jax.teacher.answers import CUT_OFF, ENGINE_ERROR
from fsa_jax.teacher.generation_requests import Request, RequestMaker, engine_seed
from fsa_jax.teacher.store.errors import StoreError
from fsa_jax.teacher.store.parts import StoredGeneration
from fsa_jax.teacher.store.reader import StoreReader, generations
from fsa_jax.teacher.store.shard_files import Journal, Shard, contents
from fsa_jax.teacher.store.writer import ShardWriter

FOLDER = Shard().folder


def requests(maker: RequestMaker, count: int) -> list[Request]:
    return [request for review in reviews(count) for request in maker.requests(review)]


def keys(root: Path) -> list[bytes]:
    return [generation.key for generation in StoreReader(root)]


def test_stored_rows_are_read_back_unchanged(tmp_path: Path, maker: RequestMaker):
    first, second, third = requests(maker, 3)
    odd = 'quote " \\ newline \n tab \t 漢字 🙂 \u2028'
    rows = [row(first, text=odd), row(second, f"{ENGINE_ERROR}: 500"), row(third, input_tokens=None)]
    with ShardWriter(tmp_path) as writer:
        writer.append(rows[:2])
        writer.append(rows[2:])
        assert list(StoreReader(tmp_path)) == rows  # from the journal
    assert list(StoreReader(tmp_path)) == rows  # from the part
    (generation, failed, _) = generations(tmp_path)
    assert generation.text == odd and generation.sampling["top_p"] == 0.95
    assert failed.text is None and failed.failure == f"{ENGINE_ERROR}: 500"


def test_a_cut_off_answer_is_a_failure_whose_text_is_kept(tmp_path: Path, maker: RequestMaker):
    with ShardWriter(tmp_path) as writer:
        writer.append([row(requests(maker, 1)[0], f"{CUT_OFF}: at max_tokens 8", text="Opinion Tar")])
    (failed,), (kept,) = generations(tmp_path), generations(tmp_path, keep_cut_off=True)
    assert failed.text is None and failed.failure is not None
    assert kept.text == "Opinion Tar" and kept.failure is None


def test_journals_become_parts_and_small_parts_are_merged(tmp_path: Path, maker: RequestMaker):
    every = requests(maker, 95)
    for start in range(0, 95, 5):  # 19 short jobs
        with ShardWriter(tmp_path, rows_per_part=20) as writer:
            assert len(writer.done) == start
            writer.append([row(request) for request in every[start : start + 5]])
    assert keys(tmp_path) == [request.key for request in every]
    assert len(contents(tmp_path / FOLDER).parts) <= 95 // 20 + 2
    assert {path.suffix for path in (tmp_path / FOLDER).iterdir()} == {".parquet", ".sha256", ""}


def test_parts_are_ordinary_parquet(tmp_path: Path, maker: RequestMaker):
    with ShardWriter(tmp_path) as writer:
        writer.append([row(request) for request in requests(maker, 4)])
    table = pyarrow.parquet.read_table(next((tmp_path / FOLDER).glob("part-*.parquet")))
    assert table["teacher"].to_pylist() == ["test-teacher"] * 4


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_truncated_journal_loses_only_its_last_line(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory, maker
):
    root = tmp_path_factory.mktemp("torn")
    every = requests(maker, 6)
    journal_file = root / FOLDER / "journal-00000000.jsonl"
    journal_file.parent.mkdir()
    journal = Journal(journal_file)
    journal.append([row(request) for request in every])
    journal.close()
    whole = journal_file.read_bytes()
    cut = data.draw(st.integers(0, len(whole)))
    # After a power cut the end may be zeros: the length was written, the data were not.
    journal_file.write_bytes(whole[:cut] + b"\0" * data.draw(st.integers(0, 20)))
    survived = whole[:cut].count(b"\n")
    assert keys(root) == [request.key for request in every[:survived]]
    with ShardWriter(root) as writer:
        assert len(writer.done) == survived
        writer.append([row(request) for request in every[survived:]])
    assert keys(root) == [request.key for request in every]


def crash(root: Path, at: int, rows: list[StoredGeneration], rows_per_part: int) -> bool:
    """Writes rows in a child that dies at its n-th rename, unlink or sync; returns whether it died."""
    child = os.fork()
    if child:
        return os.waitpid(child, 0)[1] != 0
    calls = 0

    def dying(function):
        def wrapper(*arguments, **options):
            nonlocal calls
            calls += 1
            if calls == at:
                os._exit(9)
            return function(*arguments, **options)

        return wrapper

    for name in ("replace", "unlink", "fsync"):
        setattr(os, name, dying(getattr(os, name)))
    Path.replace = dying(Path.replace)
    Path.unlink = dying(Path.unlink)
    status = 1
    try:
        with ShardWriter(root, rows_per_part=rows_per_part) as writer:
            done = set(keys(root))
            for one in rows:
                if one.key not in done:
                    writer.append([one])
        status = 0
    finally:
        os._exit(status)


def test_a_crash_at_any_step_neither_loses_nor_duplicates_rows(tmp_path: Path, maker: RequestMaker):
    rows = [row(request) for request in requests(maker, 7)]
    at, died = 0, True
    while died:
        at += 1
        root = tmp_path / str(at)
        died = crash(root, at, rows, rows_per_part=3)
        before = keys(root) if (root / FOLDER).exists() else []
        assert before == [one.key for one in rows[: len(before)]]
        # A second crash while the files left by the first are cleaned up.
        crash(root, 1 + at % 7, rows, rows_per_part=8)
        assert not crash(root, 10_000, rows, rows_per_part=5)
        assert [generation.key for shard in StoreReader(root).attempts_by_shard() for generation in shard] == [
            one.key for one in rows
        ]
    assert at > 12


def test_only_one_job_writes_a_shard(tmp_path: Path, maker: RequestMaker):
    with ShardWriter(tmp_path, Shard(0, 2)), ShardWriter(tmp_path, Shard(1, 2)):
        with pytest.raises(StoreError, match=f"process {os.getpid()}"):
            ShardWriter(tmp_path, Shard(0, 2))
        with pytest.raises(StoreError, match="another number of shards"):
            ShardWriter(tmp_path, Shard(0, 3))
    ShardWriter(tmp_path, Shard(0, 3)).close()


def test_another_number_of_shards_finds_what_is_done(tmp_path: Path, maker: RequestMaker):
    every = requests(maker, 40)
    for index in range(2):
        shard = Shard(index, 2)
        with ShardWriter(tmp_path, shard) as writer:
            writer.append([row(request) for request in every if shard.holds(request.review_id)])
    with ShardWriter(tmp_path) as writer:
        assert len(writer.done) == 40


def test_retried_failures_count_once(tmp_path: Path, maker: RequestMaker):
    good, fixed, broken = requests(maker, 3)
    with ShardWriter(tmp_path) as writer:
        writer.append([row(good), row(fixed, ENGINE_ERROR), row(broken, ENGINE_ERROR)])
    with ShardWriter(tmp_path) as writer:
        assert len(writer.done) == 3 and writer.failed_attempts == {}
    with ShardWriter(tmp_path, retry_failed=True) as writer:
        assert writer.failed_attempts == {fixed.key: 1, broken.key: 1}
        writer.append([row(fixed, attempt=1), row(broken, ENGINE_ERROR, attempt=1)])
    rows = list(StoreReader(tmp_path))
    assert [(one.key, one.failure, one.attempt) for one in rows] == [
        (good.key, None, 0),
        (fixed.key, None, 1),
        (broken.key, ENGINE_ERROR, 1),
    ]
    assert sum(1 for shard in StoreReader(tmp_path).attempts_by_shard() for _ in shard) == 5
    with ShardWriter(tmp_path, retry_failed=True) as writer:
        assert writer.failed_attempts == {broken.key: 2}
    assert engine_seed(broken.key, 1) != engine_seed(broken.key, 2)


def test_a_reader_sees_a_journal_that_becomes_a_part_meanwhile(tmp_path: Path, maker: RequestMaker):
    every = requests(maker, 5)
    with ShardWriter(tmp_path) as writer:
        writer.append([row(request) for request in every])
        reader = StoreReader(tmp_path)
    assert [generation.key for generation in reader] == [request.key for request in every]


def test_a_damaged_part_is_named(tmp_path: Path, maker: RequestMaker):
    with ShardWriter(tmp_path) as writer:
        writer.append([row(request) for request in requests(maker, 5)])
    part = next((tmp_path / FOLDER).glob("part-*.parquet"))
    part.write_bytes(part.read_bytes()[:-10])
    with pytest.raises(StoreError, match=part.name):
        ShardWriter(tmp_path)


def test_no_store_is_an_error(tmp_path: Path):
    with pytest.raises(MissingDataError, match="fsa teach"):
        StoreReader(tmp_path)


FULL_DISK = """
import json, resource, sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from stored_rows import MODEL, reviews, row
from fsa_jax.teacher.store.key_set import as_keys
from fsa_jax.teacher.generation_requests import load_prompt
from fsa_jax.teacher.generation_requests import RequestMaker, SamplingSettings, Teacher
from fsa_jax.teacher.store.writer import ShardWriter
from fsa_jax.teacher.store.errors import StoreError

maker = RequestMaker(Teacher(MODEL, None, SamplingSettings()), [load_prompt("analysis")])
requests = [request for review in reviews(5000) for request in maker.requests(review)]
stored = 0
try:
    with ShardWriter(Path(sys.argv[2]), rows_per_part=int(sys.argv[4])) as writer:
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]), -1))
        for request in requests:
            if not writer.done.contains(as_keys([request.key]))[0]:
                writer.append([row(request)])
                stored += 1
except StoreError as error:
    print(json.dumps([stored, str(error)]))
"""


@pytest.mark.parametrize("rows_per_part", [40, 4000])
def test_a_disk_that_fills_up_stops_the_job_and_loses_nothing(tmp_path: Path, maker: RequestMaker, rows_per_part: int):
    command = [sys.executable, "-c", FULL_DISK, str(Path(__file__).parent), str(tmp_path), "9000"]
    run = subprocess.run([*command, str(rows_per_part)], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    stored, message = json.loads(run.stdout)
    assert "file-size limit" in message and "stored answers are safe" in message
    every = requests(maker, 5000)
    # The last row may be complete although its write was reported as failed.
    assert keys(tmp_path)[:stored] == [request.key for request in every[:stored]]
    assert 0 < stored <= len(keys(tmp_path)) <= stored + 1
    with ShardWriter(tmp_path) as writer:
        writer.append([row(request) for request in every[len(writer.done) :]])
    assert keys(tmp_path) == [request.key for request in every]


def test_a_file_system_without_locks_is_an_error(tmp_path, monkeypatch):
    def no_lock(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.flock", no_lock)
    with pytest.raises(StoreError, match="a file system with locks"):
        ShardWriter(tmp_path / "store")
