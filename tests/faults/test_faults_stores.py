"""Damaged stores of generations: the same rows, an error that names the file, or a count of the lost rows."""

from __future__ import annotations

import json
import random
import shutil
import subprocess
import zlib
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest
from campaign import Campaign
from damage import damaged

from fsa_base.checksums import LIST
from fsa_base.errors import FsaError
from fsa_jax.cli.main import main
from fsa_jax.common.records import Review
from fsa_jax.teacher.generation_requests import RequestMaker, SamplingSettings, Teacher, load_prompt
from fsa_jax.teacher.store import errors
from fsa_jax.teacher.store.errors import StoreError
from fsa_jax.teacher.store.parts import StoredGeneration
from fsa_jax.teacher.store.reader import StoreReader, generations
from fsa_jax.teacher.store.shard_files import Shard
from fsa_jax.teacher.store.writer import ShardWriter

ROWS = 18
FOLDER = Shard().folder


def all_rows() -> list[StoredGeneration]:
    sampling = SamplingSettings()
    maker = RequestMaker(Teacher("test-teacher", None, sampling), [load_prompt("analysis")])
    found = []
    for i in range(ROWS):
        (request,) = maker.requests(Review(id=f"r{i}", text=f"Visit {i}: lovely soup."))
        prompt, failed = request.prompt, i % 5 == 4
        columns: dict[str, Any] = {
            "key": request.key,
            "review_id": request.review_id,
            "understanding": prompt.understanding,
            "prompt": prompt.name,
            "prompt_hash": prompt.hash,
            "teacher": "test-teacher",
            "teacher_revision": None,
            "sampling": sampling.canonical,
            "seed": 0,
            "sample": 0,
            "attempt": 0,
            "text": None if failed else f"Answer about visit {i}: the soup. " * 9,
            "failure": "engine error: 500" if failed else None,
            "input_tokens": 90 + i,
            "output_tokens": 9,
            "finished": 1000.0 + i,
            "seconds": 1.0,
            "devices": 0,
        }
        found.append(StoredGeneration(**columns))
    return found


EVERY = all_rows()


def write_store(root: Path) -> Path:
    """Writes two parts of six rows and a journal of six, as after a kill; returns the folder of the shard."""
    with ShardWriter(root, rows_per_part=6) as writer:
        writer.append(EVERY[:6])
        writer.append(EVERY[6:12])
    writer = ShardWriter(root, rows_per_part=6)
    writer._journal.append(EVERY[12:])
    writer._lock.close()
    return root / FOLDER


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An undamaged store, which tests copy."""
    root = tmp_path_factory.mktemp("whole") / "store"
    write_store(root)
    return root


@pytest.fixture(autouse=True)
def nothing_told() -> None:
    getattr(errors, "_told", set()).clear()


def part(root: Path, number: int = 0) -> Path:
    return sorted((root / FOLDER).glob("part-*.parquet"))[number]


def go_on(root: Path) -> int:
    """Stores the missing rows, like ``fsa teach``; returns their number."""
    by_key = {row.key: row for row in EVERY}
    with ShardWriter(root) as writer:
        stored = {bytes(key) for level in writer.done._levels for key in level}
        missing = [row for key, row in by_key.items() if key.rstrip(b"\0") not in stored]
        writer.append(missing)
    return len(missing)


def require_no_loss(root: Path, name: str, read: Callable[[], str]) -> str:
    """Reads and continues a store whose file ``name`` is damaged; returns the outcome."""
    try:
        found = list(StoreReader(root))
        assert found == [row.generation() and row for row in found]
    except FsaError as error:
        assert name in str(error) or LIST in str(error), error
        with pytest.raises(FsaError):
            go_on(root)
        return "refused"
    wrong = [row for row in found if row not in EVERY]
    assert not wrong, f"other rows: {wrong[0]}"
    assert len({row.key for row in found}) == len(found)
    gone, told = ROWS - len(found), read()
    assert not gone or ("lines are skipped" in told and name in told), f"{gone} rows are gone in silence"
    before = Counter(row.key for row in found)
    assert go_on(root) == gone, "a stored request is sent again, or a lost one is not"
    after = list(StoreReader(root))
    assert sorted(after, key=lambda row: row.finished) == EVERY and before <= Counter(row.key for row in after)
    return "same rows" if not gone else "rows counted as gone"


def test_no_damage_to_a_file_of_a_store_is_silent(
    campaign: Campaign,
    whole: Path,
    tmp_path: Path,
    rng: random.Random,
    cases: Callable[[int, int], int],
    capsys: pytest.CaptureFixture[str],
):
    """Every file of the store, damaged or deleted."""
    names = sorted(path.name for path in (whole / FOLDER).iterdir())
    root = tmp_path / "store"

    def attempt(name: str, data: bytes | None) -> str:
        errors._told.clear()
        shutil.rmtree(root, ignore_errors=True)
        shutil.copytree(whole, root)
        path = root / FOLDER / name
        path.unlink() if data is None else path.write_bytes(data)
        return require_no_loss(root, name, lambda: capsys.readouterr().err)

    for name in names:
        campaign.run(f"{name} deleted", lambda name=name: attempt(name, None))
        campaign.run(f"{name} emptied", lambda name=name: attempt(name, b"")) if "journal" not in name else None
    for _ in range(cases(60, 4000)):
        seed, name = rng.randrange(1 << 30), rng.choice(names)
        content = (whole / FOLDER / name).read_bytes()
        said, data = damaged(content, random.Random(seed))
        if (
            name.startswith("journal")
            and content.startswith(data)
            and data.endswith((b"\n", b""))
            and (not data or data.endswith(b"\n"))
        ):
            continue  # truncated between two lines, as by a power cut; this is not noticed (docs/guarantees.md)
        campaign.run(f"{name}: {said}, seed {seed}", lambda name=name, data=data: attempt(name, data))


def test_damage_to_a_store_without_checksums_is_never_a_traceback(
    campaign: Campaign, whole: Path, tmp_path: Path, rng: random.Random, cases: Callable[[int, int], int]
):
    """A store of version 528859f; values may be wrong, but every part is read completely or refused."""
    table = pyarrow.parquet.read_table(part(whole)).replace_schema_metadata(None)
    root = tmp_path / "store"
    old = root / FOLDER / "part-00000000-00000000.parquet"
    old.parent.mkdir(parents=True)
    pyarrow.parquet.write_table(table, old, compression="zstd")
    content = old.read_bytes()

    def attempt(data: bytes) -> str:
        old.write_bytes(data)
        found = list(generations(root))
        assert len(found) == 6
        return "read, not verified"

    for _ in range(cases(40, 2000)):
        seed = rng.randrange(1 << 30)
        said, data = damaged(content, random.Random(seed))
        campaign.run(f"{said}, seed {seed}", lambda data=data: attempt(data))


def test_every_reader_notices_a_flipped_bit_in_a_part(whole: Path, tmp_path: Path):
    """Before parts had checksums, 6 of 300 flipped bits changed the content unnoticed."""
    root = tmp_path / "store"
    shutil.copytree(whole, root)
    path = part(root, 1)
    data = bytearray(path.read_bytes())
    generator = random.Random(3)
    for _ in range(60):
        at, bit = generator.randrange(len(data)), 1 << generator.randrange(8)
        data[at] ^= bit
        path.write_bytes(data)
        data[at] ^= bit
        for reader in (lambda: list(generations(root)), lambda: list(StoreReader(root)), lambda: ShardWriter(root)):
            with pytest.raises(StoreError, match=path.name):
                reader()
    path.write_bytes(data)
    assert len(list(generations(root))) == ROWS


def test_commands_name_the_part_and_what_to_do(whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """Exit status 2, no traceback; after the fix in the error, only the lost requests are sent again."""
    root = tmp_path / "store"
    shutil.copytree(whole, root)
    path = part(root)
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    assert main(["teach-report", str(root)]) == 2
    printed = capsys.readouterr().err
    assert str(path) in printed and "Traceback" not in printed
    command = f"mv {path} {path}.damaged"
    assert command in printed
    subprocess.run(command, shell=True, check=True)
    assert len(list(StoreReader(root))) == ROWS - 6
    assert go_on(root) == 6 and "set aside as damaged" in capsys.readouterr().err
    assert sorted(StoreReader(root), key=lambda row: row.finished) == EVERY
    assert go_on(root) == 0
    Path(f"{path}.damaged").unlink()
    shutil.copy(part(whole), path)  # the user found a copy later: no row is read twice
    with pytest.raises(StoreError, match=path.name) as raised:
        list(StoreReader(root))
    subprocess.run(raised.value.fix.partition("again: ")[2], shell=True, check=True)
    assert sorted(StoreReader(root), key=lambda row: row.finished) == EVERY


def test_answers_of_a_restored_part_are_preferred_to_later_failures(whole: Path, tmp_path: Path):
    """While the part was set aside, the requests were sent again and failed; the restored answers are paid for."""
    root = tmp_path / "store"
    shutil.copytree(whole, root)
    path = part(root)
    path.rename(f"{path}.damaged")
    with ShardWriter(root) as writer:
        writer.append([replace(row, text=None, failure="engine error: 500") for row in EVERY[:6]])
    Path(f"{path}.damaged").rename(path)
    with pytest.raises(StoreError, match=path.name) as raised:
        list(StoreReader(root))
    subprocess.run(raised.value.fix.partition("again: ")[2], shell=True, check=True)
    assert sorted(StoreReader(root), key=lambda row: row.finished) == EVERY


def test_a_missing_part_is_noticed(whole: Path, tmp_path: Path):
    """Without this error, the requests of a deleted part would be paid again unnoticed."""
    root = tmp_path / "store"
    shutil.copytree(whole, root)
    path = part(root, 1)
    path.unlink()
    with pytest.raises(StoreError, match=path.name) as raised:
        ShardWriter(root)
    assert f"touch {path}.damaged" in raised.value.fix
    Path(f"{path}.damaged").touch()
    assert go_on(root) == 6


def test_the_list_can_be_read_and_written_with_sha256sum(whole: Path, tmp_path: Path):
    """A missing list is an error, and can be written again with the command in the error."""
    root = tmp_path / "store"
    shutil.copytree(whole, root)
    subprocess.run(["sha256sum", "--check", "--strict", LIST], cwd=root / FOLDER, check=True)
    (root / FOLDER / LIST).unlink()
    with pytest.raises(StoreError, match=LIST) as raised:
        list(StoreReader(root))
    command = raised.value.fix.partition("again: ")[2]
    subprocess.run(command, shell=True, check=True)
    assert list(StoreReader(root)) == EVERY and go_on(root) == 0


def test_parts_without_checksums_are_read_with_a_message(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """Parts in the format of version 528859f; tests/test_old_artefacts.py has real ones."""
    folder = write_store(tmp_path / "store")
    (folder / LIST).unlink(missing_ok=True)
    for path in folder.glob("part-*"):
        table = pyarrow.parquet.read_table(path).replace_schema_metadata(None)
        pyarrow.parquet.write_table(table, path, compression="zstd")
    assert list(StoreReader(tmp_path / "store")) == EVERY and list(generations(tmp_path / "store"))
    assert capsys.readouterr().err == f"{folder}: 2 parts of an earlier version have no checksums: not verified\n"
    assert go_on(tmp_path / "store") == 0
    assert list(StoreReader(tmp_path / "store")) == EVERY


def write_other_schema(path: Path) -> None:
    pyarrow.parquet.write_table(pyarrow.table({"id": [1], "text": ["a"]}), path)


def write_other_types(path: Path) -> None:
    table = pyarrow.parquet.read_table(path)
    index = table.schema.get_field_index("seed")
    changed = table.set_column(index, "seed", table["seed"].cast(pyarrow.string())).replace_schema_metadata(None)
    pyarrow.parquet.write_table(changed, path)


def write_bad_values(path: Path) -> None:
    table = pyarrow.parquet.read_table(path)
    index = table.schema.get_field_index("sampling")
    column = pyarrow.array(["[" * 9000] * len(table)).dictionary_encode()
    changed = table.set_column(index, table.schema.field(index), column).replace_schema_metadata(None)
    pyarrow.parquet.write_table(changed, path)


def make_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize("change", [write_other_schema, write_other_types, write_bad_values, make_folder])
@pytest.mark.parametrize("listed", [True, False])
def test_parquet_that_is_not_a_part_is_an_error(
    whole: Path, tmp_path: Path, change: Callable[[Path], None], listed: bool
):
    """A Parquet file of another schema is a StoreError, not a KeyError or an error of pydantic."""
    root = tmp_path / "store"
    shutil.copytree(whole, root)
    path = part(root)
    change(path)
    if not listed and (root / FOLDER / LIST).exists():
        lines = (root / FOLDER / LIST).read_text().splitlines(keepends=True)
        (root / FOLDER / LIST).write_text("".join(line for line in lines if path.name not in line))
    with pytest.raises(StoreError, match=path.name):
        list(generations(root))
    if listed or change is not write_bad_values:  # a job reads only the keys
        with pytest.raises(StoreError, match=path.name):
            ShardWriter(root)


def line(values: object) -> bytes:
    payload = json.dumps(values).encode()
    return b"%08x %b\n" % (zlib.crc32(payload), payload)


@pytest.mark.parametrize(
    "garbage",
    [
        b"\n",
        b"garbage\n",
        b"\xff" * 9000 + b"\n",
        bytes(9000),
        line([]),
        line(7),
        line({"a": 1}),
        line(["zz", *[None] * 17]),
        line(["00" * 16, *[None] * 17]),
        line(["00" * 16, *[[]] * 17]),
        line(["00" * 16, *["x"] * 17]),
        line(["00" * 16, *[10**400] * 17]),
    ],
)
def test_garbage_in_a_journal_is_counted_and_skipped(
    whole: Path, tmp_path: Path, garbage: bytes, capsys: pytest.CaptureFixture[str]
):
    """Lines with a right checksum and wrong values neither cause tracebacks nor become wrong Parquet rows."""
    root = tmp_path / "store"
    shutil.copytree(whole, root)
    (journal,) = (root / FOLDER).glob("journal-*")
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join([*lines[:3], garbage, b"" if garbage.endswith(b"\n") else b"\n", *lines[3:]]))
    assert list(StoreReader(root)) == EVERY
    assert f"{journal}: 1 unfinished or damaged lines are skipped" in capsys.readouterr().err
    assert go_on(root) == 0 and list(StoreReader(root)) == EVERY


def test_an_old_journal_with_half_a_surrogate_pair_becomes_a_part(whole: Path, tmp_path: Path):
    """Version 528859f stored such a failure, and no later job could convert the journal to a part."""
    root = tmp_path / "store"
    shutil.copytree(whole, root)
    (journal,) = (root / FOLDER).glob("journal-*")
    values = json.loads(journal.read_bytes().splitlines()[0][9:])
    values[12] = "engine error: \ud800"
    journal.write_bytes(line(values))
    go_on(root)
    assert [row.failure for row in StoreReader(root) if row.review_id == "r12"] == ["engine error: ?"]


def test_other_files_in_a_store_are_not_touched(whole: Path, tmp_path: Path):
    """A copy of a shard is not read as a shard, and files of the user with the suffix .aside are not deleted."""
    root = tmp_path / "store"
    shutil.copytree(whole, root)
    shutil.copytree(root / FOLDER, root / f"{FOLDER}.copy")
    (root / "shard-notes-of-mine").write_text("notes")
    (root / FOLDER / "notes.aside").write_text("notes")
    (root / FOLDER / "part-00000000-00000000.parquet.aside").write_text("half a part")
    assert list(StoreReader(root)) == EVERY and go_on(root) == 0
    assert (root / FOLDER / "notes.aside").exists()
    assert not (root / FOLDER / "part-00000000-00000000.parquet.aside").exists()
    shutil.copy(part(root), root / FOLDER / "part-00000001-00000007.parquet")
    with pytest.raises(StoreError, match="overlap"):
        StoreReader(root)


def test_smaller_parts_are_kept_if_the_merged_part_is_damaged(tmp_path: Path):
    """A kill during merging leaves merged and smaller parts; the smaller ones are deleted only if the merged one is
    undamaged."""
    root = tmp_path / "store"
    folder = write_store(root)
    small = {path: path.read_bytes() for path in folder.glob("part-*")}
    ShardWriter(root).close()
    merged = folder / "part-00000000-00000001.parquet"
    for path, data in small.items():
        path.write_bytes(data)
    merged.write_bytes(merged.read_bytes()[:-9])
    with pytest.raises(StoreError, match=merged.name):
        ShardWriter(root)
    assert all(path.exists() for path in small)
