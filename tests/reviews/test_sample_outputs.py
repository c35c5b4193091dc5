"""What ``fsa sample`` prints about its sources, and how it writes its outputs."""

from __future__ import annotations

import errno
import itertools
import json
import os
from pathlib import Path

import pytest

from fsa_base import disk
from fsa_jax.cli.main import main
from fsa_jax.common import atomic_directory
from fsa_jax.reviews import run_sample
from fsa_jax.reviews.parquet_files import read_reviews

OPTIONS = ("--language", "null", "--near-duplicates", "null")


def dump(path: Path, text: str = "text", count: int = 60, **more: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [
        {"id": f"{path.name}{i}", text: f"In {path.name} table {i} was clean.", "stars": i % 5 + 1, **more}
        for i in range(count)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def run(*arguments: object) -> int:
    return main(["sample", *map(str, arguments), *OPTIONS])


def test_columns_of_one_file_do_not_affect_other_files(tmp_path: Path) -> None:
    first, second = dump(tmp_path / "a.jsonl", text="body", title="no text"), dump(tmp_path / "b.jsonl")
    output = tmp_path / "out.parquet"
    assert run(json.dumps([str(first), str(second)]), output, "--size", 60, "--columns", '{"text": "body"}') == 0
    texts = [review.text for review in read_reviews(output)]
    assert {text.split()[1] for text in texts} == {"a.jsonl", "b.jsonl"} and len(texts) == 60
    files = json.loads((tmp_path / "out.report.json").read_text())["files"]
    assert [file["columns"]["text"] for file in files.values()] == ["body", "text"]


def test_the_stars_offset_belongs_to_the_column_that_is_named_for_stars(tmp_path: Path) -> None:
    first = tmp_path / "a.jsonl"
    first.write_text(
        "".join(json.dumps({"text": f"In a.jsonl table {i} was clean.", "label": 0}) + "\n" for i in range(9))
    )
    second = dump(tmp_path / "b.jsonl")
    output = tmp_path / "out.parquet"
    options = ["--columns", '{"stars": "label"}', "--stars-offset", 1, "--shortfall", "fill", "--size", 500]
    assert run(json.dumps([str(first), str(second)]), output, *options) == 0
    found = list(read_reviews(output))
    assert len(found) == 69
    assert {review.stars for review in found if "a.jsonl" in review.text} == {1.0}
    assert {review.stars for review in found if "b.jsonl" in review.text} == {1.0, 2.0, 3.0, 4.0, 5.0}


def test_a_column_that_no_source_has_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(dump(tmp_path / "a.jsonl"), tmp_path / "out.parquet", "--columns", '{"stars": "ratings"}') == 2
    assert "'ratings'" in capsys.readouterr().err


def test_a_source_that_gives_nothing_is_an_error_unless_allowed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = dump(tmp_path / "a.jsonl"), dump(tmp_path / "b.jsonl", text="unknown")
    arguments = (json.dumps([str(first), str(second)]), tmp_path / "out.parquet", "--size", 20)
    assert run(*arguments) == 2
    error = capsys.readouterr().err
    assert "b.jsonl" in error and "--allow-empty-sources" in error
    assert not list(tmp_path.glob("out*")) and not list(tmp_path.glob(".*"))
    assert run(*arguments, "--allow-empty-sources") == 0
    assert run(second, tmp_path / "none.parquet", "--allow-empty-sources") == 2
    # A report that is not written is not mentioned.
    assert "report" not in capsys.readouterr().err


def test_the_summary_distinguishes_short_strata_from_those_cut_for_the_ratio(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = dump(tmp_path / "a.jsonl", count=100)
    rows = [line for i, line in enumerate(path.read_text().splitlines()) if i % 5 or i < 10]
    path.write_text("\n".join(rows))
    output = tmp_path / "out.parquet"
    assert run(path, output, "--size", 100, "--stars-ratio", '{"1": 1, "2": 1}') == 0
    printed = capsys.readouterr().out
    strata = json.loads((tmp_path / "out.report.json").read_text())["strata"]
    assert {row["stars"]: (row["taken"], row["limit"]) for row in strata} == {1: (2, "short"), 2: (2, "short")}
    assert "have fewer different reviews than asked" in printed and "ratio" not in printed
    assert run(path, output, "--size", 30, "--stars-ratio", '{"1": 1, "2": 1}', "--overwrite") == 0
    printed = capsys.readouterr().out
    strata = json.loads((tmp_path / "out.report.json").read_text())["strata"]
    assert {row["stars"]: row["limit"] for row in strata} == {1: "short", 2: "ratio"}
    assert "2 (short)" in printed and "2 (ratio)" in printed and "have more reviews, but the ratio is kept" in printed


@pytest.mark.parametrize(
    "way", ["same", "relative", "symbolic link", "hard link", "one of several", "report", "catalog"]
)
def test_an_input_is_never_an_output(tmp_path: Path, way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    source = dump(tmp_path / "in" / "reviews.report.json")
    monkeypatch.chdir(tmp_path)
    output, sources, options = source, str(source), []
    if way == "relative":
        output = Path("in/../in/reviews.report.json")
    elif way == "symbolic link":
        output = tmp_path / "out.parquet"
        output.symlink_to(source)
    elif way == "hard link":
        output = tmp_path / "out.parquet"
        os.link(source, output)
    elif way == "one of several":
        sources = json.dumps([str(dump(tmp_path / "other.jsonl")), str(source)])
    elif way == "report":
        output = tmp_path / "in" / "reviews.parquet"
    elif way == "catalog":
        sources, options = str(dump(tmp_path / "other.jsonl")), ["--catalog", json.dumps([str(source)])]
    before = source.read_bytes()
    for overwrite in ([], ["--overwrite"]):
        assert run(sources, output, "--size", 10, *options, *overwrite) == 2
    assert source.read_bytes() == before
    assert not list(tmp_path.rglob(".*"))


def test_an_output_in_a_folder_that_is_read_is_refused(tmp_path: Path) -> None:
    folder = dump(tmp_path / "in" / "a.jsonl").parent
    assert run(folder, folder / "out.parquet", "--size", 10) == 2
    assert [path.name for path in folder.iterdir()] == ["a.jsonl"]


def test_a_finished_sample_is_replaced_only_with_overwrite(tmp_path: Path) -> None:
    source, output = dump(tmp_path / "a.jsonl"), tmp_path / "out.parquet"
    assert run(source, output, "--size", 20) == 0
    before = output.read_bytes()
    assert run(source, output, "--size", 10) == 2
    assert output.read_bytes() == before
    assert run(source, output, "--size", 10, "--overwrite") == 0
    assert len(list(read_reviews(output))) == 10
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.jsonl", "out.parquet", "out.report.json"]


def test_other_files_are_never_replaced(tmp_path: Path) -> None:
    source = dump(tmp_path / "a.jsonl")
    for name, content in (("notes.parquet", b"mine"), ("x.report.json", b'{"mine": 1}')):
        (tmp_path / name).write_bytes(content)
        output = tmp_path / name.replace(".report.json", ".parquet")
        assert run(source, output, "--size", 10, "--overwrite") == 2
        assert (tmp_path / name).read_bytes() == content
    assert run(source, tmp_path, "--size", 10) == 2
    assert run(source, tmp_path / "a.jsonl" / "out.parquet", "--size", 10) == 2


def test_files_left_by_a_kill_are_replaced_only_by_the_same_command(tmp_path: Path) -> None:
    source, output = dump(tmp_path / "a.jsonl"), tmp_path / "out.parquet"
    assert run(source, output, "--size", 10) == 0
    whole = output.read_bytes()
    # Killed after the report was renamed and before the sample was.
    output.unlink()
    assert run(source, output, "--size", 12) == 2
    assert run(source, output, "--size", 10) == 0
    assert output.read_bytes() == whole


@pytest.mark.parametrize("failure", [KeyboardInterrupt(), OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))])
@pytest.mark.parametrize("step", range(1, 6))
def test_the_old_sample_is_kept_if_an_overwrite_fails_at_its_end(tmp_path, monkeypatch, failure, step) -> None:
    source, output = dump(tmp_path / "a.jsonl"), tmp_path / "s" / "out.parquet"
    assert run(source, output, "--size", 20) == 0
    old, calls = output.read_bytes(), itertools.count(1)
    sync = disk.sync

    def failing(path: Path, recursive: bool = True) -> None:
        if next(calls) == step:
            raise failure
        sync(path, recursive)

    for module in (atomic_directory, run_sample):
        monkeypatch.setattr(module, "sync", failing)
    assert run(source, output, "--size", 10, "--overwrite") in (2, 130)
    assert next(calls) > step
    monkeypatch.undo()
    names = {path.name for path in output.parent.iterdir()}
    assert "out.parquet" in names and names <= {"out.parquet", "out.report.json"}
    assert (output.read_bytes() == old) == (step < 5)  # the fifth step is after its renaming
    if "out.report.json" in names:
        size = json.loads((output.parent / "out.report.json").read_text())["settings"]["size"]
        assert size == (20 if step < 5 else 10)
    assert run(source, output, "--size", 10, "--overwrite") == 0


def test_paths_are_printed_unchanged(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, output = dump(tmp_path / "[/x]" / ":smile:[b].jsonl"), tmp_path / "[/x]out" / "[red]out.parquet"
    assert run(source, output, "--size", 10) == 0
    printed = capsys.readouterr().out
    assert str(output) in printed and ":smile:[b].jsonl" in printed


def test_a_file_name_that_is_not_utf8(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    os.rename(dump(tmp_path / "a.jsonl"), os.fsencode(folder) + b"/\xff.jsonl")
    assert run(folder, tmp_path / "out.parquet", "--size", 10) == 0
