"""The output of ``fsa check``: it never overwrites other files or follows links, and has checksums."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from fsa_base.errors import DataError
from fsa_jax.checking.checked_files import parts, read_part
from fsa_jax.cli.main import main
from fsa_jax.corpus.selection import files, rows
from fsa_jax.synthetic.files import write_teacher_text
from fsa_jax.synthetic.oracle import Oracle
from fsa_jax.synthetic.world import draw_reviews


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Path:
    return write_teacher_text(tmp_path_factory.mktemp("text"), draw_reviews(0, 12), Oracle())


@pytest.fixture(scope="module")
def checked(source, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("checked") / "out"
    assert main(["check", str(source), str(out), "--workers", "1"]) == 0
    return out


def require_whole(folder: Path) -> None:
    from fsa_jax.checking import checked_files

    checked_files.require_whole(folder)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("link", ["out", "out/kept", "out/check.json"])
def test_a_link_in_the_output_is_not_followed(source, tmp_path, link, capsys):
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "part-00000.parquet").write_text("mine")
    if link != "out":
        (tmp_path / "out").mkdir()
    (tmp_path / link).symlink_to(mine / "part-00000.parquet" if link.endswith("json") else mine)
    for flag in ([], ["--overwrite"]):
        assert main(["check", str(source), str(tmp_path / "out"), "--workers", "1", *flag]) == 2
    assert "symbolic link" in capsys.readouterr().err
    assert contents(mine) == {"part-00000.parquet": b"mine"}


def test_a_finished_check_is_replaced_only_with_overwrite(source, checked, tmp_path, capsys):
    out = tmp_path / "out"
    shutil.copytree(checked, out)
    before = contents(out)
    other = ["check", str(source), str(out), "--workers", "1", "--grounding", "0.9"]
    assert main(other) == 2
    assert "--overwrite" in capsys.readouterr().err and contents(out) == before
    assert main([*other, "--overwrite"]) == 0
    assert json.loads((out / "check.json").read_text("utf-8"))["settings"]["grounding"] == 0.9
    (out / "notes.txt").write_text("mine")
    assert main([*other, "--overwrite"]) == 2
    assert "notes.txt" in capsys.readouterr().err and (out / "notes.txt").exists()


def test_a_check_into_its_own_input_is_refused(source, tmp_path, capsys):
    folder = tmp_path / "text"
    folder.mkdir()
    shutil.copy(source, folder / "rows.jsonl")
    rows = folder / "rows.jsonl"
    for given, out in ((folder, folder), (rows, folder), (rows, rows)):
        assert main(["check", str(given), str(out), "--workers", "1", "--overwrite"]) == 2
        assert "input" in capsys.readouterr().err
    assert [path.name for path in folder.iterdir()] == ["rows.jsonl"]


def test_a_check_that_fails_leaves_nothing(tmp_path, capsys):
    (tmp_path / "bad.jsonl").write_text('{"Text": "good pizza"}\n')
    assert main(["check", str(tmp_path / "bad.jsonl"), str(tmp_path / "new" / "out"), "--workers", "1"]) == 2
    assert main(["check", str(tmp_path / "none.jsonl"), str(tmp_path / "new" / "out"), "--workers", "1"]) == 2
    assert list((tmp_path / "new").iterdir()) == []


def test_a_damaged_file_of_a_check_is_named(checked, tmp_path, capsys):
    names = sorted(contents(checked))
    assert names == [
        "check.html",
        "check.json",
        "checksums.sha256",
        "dropped/part-00000.parquet",
        "finished.json",
        "kept/part-00000.parquet",
    ]
    for number, name in enumerate(names):
        for kind in ("flipped", "missing", "empty"):
            out = tmp_path / f"{number}-{kind}"
            shutil.copytree(checked, out)
            data = bytearray((out / name).read_bytes())
            data[len(data) // 2] ^= 1
            (out / name).unlink()
            if kind != "missing":
                (out / name).write_bytes(data if kind == "flipped" else b"")
            assert main(["corpus", str(out), str(tmp_path / "data")]) == 2
            assert name in capsys.readouterr().err
    assert not (tmp_path / "data" / "sentiment_corpus").exists()
    (tmp_path / "more").mkdir()
    shutil.copytree(checked, tmp_path / "more" / "out")
    shutil.copy(checked / "kept" / "part-00000.parquet", tmp_path / "more" / "out" / "kept" / "part-00001.parquet")
    with pytest.raises(DataError, match=r"part-00001.parquet is not in"):
        require_whole(tmp_path / "more" / "out")


def test_a_check_without_checksums_is_read_with_a_message(checked, tmp_path, capsys):
    out = tmp_path / "out"
    shutil.copytree(checked, out)
    for name in ("finished.json", "checksums.sha256"):
        (out / name).unlink()
    with pytest.raises(DataError, match="cannot be read"):
        require_whole(out)  # check.json says that there was a list
    counts = json.loads((out / "check.json").read_text("utf-8"))
    del counts["checksums"]
    (out / "check.json").write_text(json.dumps(counts), encoding="utf-8")
    require_whole(out)
    require_whole(out)
    assert capsys.readouterr().err.count("not verified") == 1
    assert sum(1 for file in files(out) for _ in rows(file)) > 0


def test_files_are_compared_once_unless_they_change(checked, tmp_path, monkeypatch):
    out = tmp_path / "out"
    shutil.copytree(checked, out)
    calls = []
    monkeypatch.setattr("fsa_base.checksums.file_digest", lambda path, real=_digest: calls.append(path) or real(path))
    require_whole(out)
    first = len(calls)
    require_whole(out)
    assert first == len(calls) > 0
    with (out / "check.html").open("ab") as file:
        file.write(b"x")
    with pytest.raises(DataError, match=r"check.html has changed"):
        require_whole(out)


def _digest(path: Path) -> str:
    import hashlib

    return hashlib.sha256(path.read_bytes()).hexdigest()


ODD = ["\ud800", "good \udfff pizza", "\x00", "good\x00pizza", "\x1b[31mred", "\u202e", "፩ good"]
ODD += ["", 7, None, [], {"a": 1}, True]


@pytest.mark.parametrize("workers", ["1", "2"])
def test_odd_responses_are_counted(tmp_path, workers, capsys):
    """``\\ud800`` in a response gave a traceback."""
    source = tmp_path / "rows.jsonl"
    lines = [
        json.dumps({"ID": number, "Text": f"A good pizza {number}.", "Overall": 4, "mixtral_response": odd})
        for number, odd in enumerate(ODD)
    ]
    lines += [
        json.dumps({"ID": 99, "Text": "A good pizza.", "Overall": 4, "mixtral_response": "I like it. " * 1_000_000}),
        json.dumps({"ID": 100, "Text": "A good pizza.", "Overall": 4, "mixtral_response": "I like it. " * 200_000}),
        '{"ID": 101, "Text": "A good pizza", "Overall": 4, "mixtral_response": ' + "[" * 5000 + "]" * 5000 + "}",
        json.dumps({"ID": 102, "Text": "A good pizza.", "Overall": 4, "mixtral_response": "I liked the \ud800 pizza."}),
    ]
    source.write_text("\n".join(lines), encoding="utf-8")
    assert main(["check", str(source), str(tmp_path / "out"), "--workers", workers]) == 0
    counts = json.loads((tmp_path / "out" / "check.json").read_text("utf-8"))
    assert counts["rows"] + sum(counts["skipped"].values()) == len(lines)
    found = [row for name in ("kept", "dropped") for part in parts(tmp_path / "out" / name) for row in read_part(part)]
    assert len(found) == counts["rows"]
    assert counts["reasons"]["text longer than 60,000 characters"] == 1
    (fixed,) = [row for row in found if row["review_id"] == "102"]
    assert fixed["verdict"] == "repair" and fixed["response"] == "I liked the \ufffd pizza."
    assert fixed["repairs"] == ["half a surrogate pair"]


@pytest.mark.parametrize("given", ["kept", "kept/part-00000.parquet", "."])
def test_parts_of_a_damaged_check_are_refused_however_they_are_named(checked, tmp_path, monkeypatch, capsys, given):
    out = tmp_path / "out"
    shutil.copytree(checked, out)
    with (out / "kept" / "part-00000.parquet").open("ab") as file:
        file.write(b"x")
    monkeypatch.chdir(out / "kept")
    assert main(["corpus", given if given == "." else str(out / given), str(tmp_path / "data")]) == 2
    assert "kept/part-00000.parquet has changed" in capsys.readouterr().err
