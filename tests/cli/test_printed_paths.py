"""Paths and names are printed unchanged: rich would interpret ``[/x]`` and ``:smile:``."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from rich.table import Table

import fsa_jax
from fsa_jax.cli.main import main
from fsa_jax.common.terminal import console, row_progress

NAME = "[/x][red]:smile:"


def test_check_prints_its_output_s_path(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = tmp_path / f"{NAME}.jsonl"
    source.parent.mkdir()
    source.write_text(json.dumps({"ID": 1, "Text": "The soup was good.", "Overall": 4, "gpt_response": "I liked it."}))
    assert main(["check", str(source), str(tmp_path / NAME), "--workers", "1"]) == 0
    assert f"{tmp_path / NAME}/kept" in capsys.readouterr().out


def test_progress_is_shown_only_on_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    with row_progress() as progress:
        for phase, rows in (("scan", 1000), ("scan", 2000), ("collect", 1000)):
            progress(phase, rows)
    assert capsys.readouterr().err == ""


def test_tables_show_titles_and_cells_unchanged(capsys: pytest.CaptureFixture[str]) -> None:
    table = Table("what", title=f"title {NAME}")
    table.add_row(f"cell {NAME}")
    console().print(table)
    printed = capsys.readouterr().out
    assert f"title {NAME}" in printed and f"cell {NAME}" in printed


@pytest.mark.parametrize("command", [["sample"], ["predict", "model"]])
def test_names_in_untrusted_files_cannot_control_the_terminal(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = tmp_path / "a.csv"
    escape = "\x1b[31mbody\x1b]0;pwn\x07"
    source.write_text(f"id,{escape},{escape}{'2' if command == ['sample'] else ''}\n1,A fine soup.,5\n")
    assert main([*command, str(source), str(tmp_path / "out.parquet")]) == 2
    told = capsys.readouterr().err
    assert "\x1b" not in told and "\x07" not in told and r"\x1b[31mbody\x1b]0;pwn\x07" in told


def test_every_command_uses_that_console() -> None:
    sources = Path(fsa_jax.__file__).parent.rglob("*.py")
    found = [path.name for path in sources if re.search(r"\bConsole\(|rich\.print", path.read_text("utf-8"))]
    assert found == ["terminal.py"]
