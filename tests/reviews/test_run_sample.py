"""``fsa sample`` as a function of the library."""

from __future__ import annotations

import inspect
import json
from pathlib import Path
from typing import Any

import pytest

from fsa_base.errors import SettingError
from fsa_jax.cli.main import main
from fsa_jax.cli.sample import command
from fsa_jax.reviews.parquet_files import read_reviews
from fsa_jax.reviews.run_sample import sample_reviews

QUICK: dict[str, Any] = {"language": None, "near_duplicates": None}


def dump(path: Path, count: int = 100) -> Path:
    rows = [
        {"id": f"{path.stem}{i}", "text": f"In {path.stem} table {i} was clean.", "stars": i % 5 + 1}
        for i in range(count)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def test_the_library_function_writes_what_the_command_writes(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    source = dump(tmp_path / "a.jsonl")
    result = sample_reviews(source, tmp_path / "1.parquet", size=20, seed=3, **QUICK)
    printed = capsys.readouterr()
    assert printed.out == printed.err == ""
    options = ["--size", "20", "--seed", "3", "--language", "null", "--near-duplicates", "null"]
    assert main(["sample", str(source), str(tmp_path / "2.parquet"), *options]) == 0
    assert "fsa teach" in (said := capsys.readouterr().out) and "Columns found" in said
    assert (tmp_path / "1.parquet").read_bytes() == (tmp_path / "2.parquet").read_bytes()
    assert result.size == len(list(read_reviews(result.output))) == 20
    assert result.report == json.loads(result.report_file.read_text("utf-8"))
    assert result.report_file.read_text() == (tmp_path / "2.report.json").read_text()


def test_sources_may_be_texts_paths_or_lists(tmp_path: Path):
    first, second = dump(tmp_path / "a.jsonl"), dump(tmp_path / "b.jsonl", 2000)
    seen = []
    for number, sources in enumerate((str(first), [first, f"hotels={second}"], (str(second),))):
        result = sample_reviews(
            sources, str(tmp_path / f"{number}.parquet"), size=30, **QUICK, progress=lambda *said: seen.append(said)
        )
        assert result.size == 30
    assert {rows for _, rows in seen} == {1000, 2000} and {phase for phase, _ in seen} == {"scan", "collect"}
    with pytest.raises(SettingError, match="earlier output"):
        sample_reviews(first, tmp_path / "0.parquet", size=30, **QUICK)
    with pytest.raises(SettingError, match="--columns"):
        sample_reviews(first, tmp_path / "3.parquet", columns={"txt": "body"})
    with pytest.raises(SettingError, match="SOURCES: expected at least one source"):
        sample_reviews([], tmp_path / "3.parquet")


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"shortfall": "foo"}, "'shrink' or 'fill' or 'error', found 'foo'"),
        ({"min_language_score": 5}, "a number from 0 to 1, found 5"),
        ({"min_language_score": float("nan")}, "a number from 0 to 1, found nan"),
        ({"near_duplicates": 0}, "a number above 0, at most 1"),
        ({"size": 0}, "a number of at least 1"),
        ({"stars_ratio": {"1": "x"}}, "stars_ratio: expected a number of at least 0, found 'x'"),
    ],
)
def test_unusable_values_are_refused_before_anything_is_read(tmp_path: Path, values: dict[str, Any], expected: str):
    with pytest.raises(SettingError, match=expected):
        sample_reviews(tmp_path / "nowhere.csv", tmp_path / "out.parquet", **values)


@pytest.mark.parametrize("name", ["out.csv", "out.jsonl", "out", "out.parquet.gz"])
def test_an_output_that_no_command_could_read_is_refused(tmp_path: Path, name: str):
    with pytest.raises(SettingError, match=r"ends in \.parquet or \.pq"):
        sample_reviews(tmp_path / "nowhere.csv", tmp_path / name)


def test_the_command_and_the_function_have_the_same_parameters():
    of_command, of_function = (inspect.signature(function).parameters for function in (command, sample_reviews))
    assert {name: one.default for name, one in of_command.items()} == {
        name: one.default for name, one in of_function.items() if name != "progress"
    }


def test_an_error_about_columns_names_those_of_the_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    source = tmp_path / "a.csv"
    source.write_text("nr,body,grade\n1,The soup was warm and good.,4\n")
    assert main(["sample", str(source), str(tmp_path / "out.parquet")]) == 2
    error = capsys.readouterr().err
    assert "no column is known as the text; the columns are nr, body, grade" in error
    assert "write --columns text=NAME" in error and "--allow-empty-sources" not in error
    options = ["--columns", "text=body", "--domain-ratio", "hotel=1"]
    assert main(["sample", f"Hotel={source}", str(tmp_path / "out.parquet"), *options]) == 2
    assert "the source has the domain Hotel" in capsys.readouterr().err
    assert main(["sample", str(source), str(tmp_path / "out.parquet"), "--columns", '{"text": "bdy"}']) == 2
    assert "columns: nr, body, grade" in capsys.readouterr().err
