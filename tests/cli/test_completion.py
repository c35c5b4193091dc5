"""``fsa completion`` in real shells; a shell that is not installed is skipped."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from fsa_jax.cli import main as cli

BASH = """
source fsa.bash
COMP_WORDS=("$@")
COMP_CWORD=$(($# - 1))
_shtab_fsa
printf '%s\\n' "${COMPREPLY[@]}"
"""
CASES = [
    (["fsa", "teach"], {"teach", "teach-report"}),
    (["fsa", "predict", "--te"], {"--text-column"}),
    (["fsa", "predict", "m", "in", "out", "--task", "a"], {"atsa", "acsa", "asqp", "analysis"}),
    (["fsa", "sample", "a", "--no-over"], {"--no-overwrite"}),
    (["fsa", "completion", ""], {"bash", "zsh", "fish"}),
    (["fsa", "predict", "m", "revi"], {"reviews.jsonl"}),
    (["fsa", "check", "s", "o", "--reviews", "revi"], {"reviews.jsonl"}),
]


@pytest.fixture
def script(tmp_path, capsys, monkeypatch, request) -> Path:
    """The script of a shell, in the current folder."""
    shell = request.param
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    assert cli.main(["completion", shell]) == 0
    path = tmp_path / f"fsa.{shell}"
    path.write_text(capsys.readouterr().out)
    (tmp_path / "reviews.jsonl").touch()
    monkeypatch.chdir(tmp_path)
    return path


def _lines(*command: str) -> set[str]:
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    return {line.split("\t")[0] for line in run.stdout.splitlines() if line}


@pytest.mark.parametrize("script", ["bash"], indirect=True)
def test_completion_of_commands_options_choices_and_files_in_bash(script):
    for words, completed in CASES:
        assert _lines("bash", "--norc", "-c", BASH, "bash", *words) == completed


@pytest.mark.parametrize("script", ["fish"], indirect=True)
def test_completion_of_commands_options_choices_and_files_in_fish(script):
    for words, completed in CASES:
        assert _lines("fish", "--no-config", "-c", f"source {script}; complete -C '{' '.join(words)}'") == completed


@pytest.mark.parametrize("script", ["zsh"], indirect=True)
def test_the_script_for_zsh_registers_its_function(script):
    code = f'autoload -Uz compinit; compinit -u -D; eval "$(cat {script})"; print ${{_comps[fsa]}}'
    assert _lines("zsh", "-f", "-c", code) == {"_shtab_fsa"}
