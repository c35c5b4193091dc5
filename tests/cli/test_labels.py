from __future__ import annotations

from pathlib import Path

import label_samples
import pytest

from fsa_jax.cli.main import main


def test_what_is_read_is_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = label_samples.write(tmp_path, "semeval16.xml")
    assert main(["labels", str(source), "--examples", "20"]) == 0
    shown = capsys.readouterr().out
    assert "format: SemEval XML; form: tasd (target, category, polarity); name: tasd/semeval16" in shown
    assert "1 sentences out of scope" in shown
    assert "    bread | food quality | positive ; staff | service general | negative\n" in shown
    assert "(no labels)" in shown or "from train, seed 0" in shown
    assert list(tmp_path.iterdir()) == [source]


def test_labels_are_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = label_samples.write(tmp_path, "reviews.csv")
    arguments = ["labels", str(source), "--out", str(tmp_path / "data"), "--task-form", "acsa", "--seed", "3"]
    assert main(arguments) == 0
    assert (tmp_path / "data" / "fsa" / "acsa" / "reviews" / "train.json").is_file()
    assert "written" in capsys.readouterr().out
    assert main(arguments) == 0
    assert "was there before" in capsys.readouterr().out
    assert main([*arguments[:-1], "4"]) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert main([*arguments[:-1], "4", "--overwrite"]) == 0


def test_an_error_is_one_line_and_a_fix(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = tmp_path / "mine.csv"
    source.write_text("text,target,polarity\nThe tea was good,wine,positive\n")
    assert main(["labels", str(source)]) == 2
    error = capsys.readouterr().err
    assert error.splitlines()[0].startswith(f"fsa labels: {source}:2: expected a term of the sentence, found 'wine'")
    assert len(error.splitlines()) == 2


def test_hostile_texts_are_escaped(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = tmp_path / "mine.txt"
    line = "[bold]\x1b[31mred {} tea\u202e .####[['tea', 'drinks', 'positive']]\n"
    source.write_text("".join(line.format(f"number{number} of{number}") for number in range(20)))
    assert main(["labels", str(source), "--examples", "20"]) == 0
    shown = capsys.readouterr().out
    assert "\x1b[31m" not in shown
    assert "\u202e" not in shown
    assert r"[bold]\x1b[31mred" in shown
