"""The ``fsa`` command: help, version, unknown commands; errors for the user are printed without a traceback."""

from __future__ import annotations

import importlib
import inspect
import os
import shlex
import subprocess
import sys

import pytest

import fsa_jax
from fsa_base.errors import DataError
from fsa_jax.cli import main as cli
from fsa_jax.cli.command_help import examples
from fsa_jax.cli.command_parser import parser_of


def test_help_lists_every_command(capsys):
    assert cli.main(["--help"]) == 0
    printed = capsys.readouterr().out
    for name, help_line in cli.COMMANDS.items():
        assert name in printed
        assert help_line in printed


@pytest.mark.parametrize("option", ["--help", "--version"])
def test_help_and_version_load_no_parser_and_no_command(option):
    code = f"import sys; from fsa_jax.cli.main import main; main([{option!r}]); print(*sys.modules, file=sys.stderr)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(run.stderr.split())
    assert not loaded & {"jsonargparse", "yaml", "docstring_parser", "shtab", "numpy"}
    assert {name for name in loaded if name.startswith("fsa_jax.cli.")} == {"fsa_jax.cli.main"}


@pytest.mark.parametrize("name", sorted(cli.COMMANDS))
def test_every_command_has_its_own_help(name, capsys):
    with pytest.raises(SystemExit) as stopped:
        cli.main([name, "--help"])
    assert stopped.value.code == 0
    printed = capsys.readouterr().out
    assert f"fsa {name}" in printed
    function = importlib.import_module(f"fsa_jax.cli.{name.replace('-', '_')}").command
    first_line = (inspect.getdoc(function) or "").splitlines()[0]
    # argparse wraps long lines, so only the first words of the docstring are compared.
    assert " ".join(first_line.split()[:4]) in " ".join(printed.split())


def test_version(capsys):
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out.strip() == f"fsa_jax {fsa_jax.__version__}"


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["smaple"], "fsa: no command 'smaple'; did you mean 'sample'?\n"),
        (["zzz"], "fsa: no command 'zzz'; fsa --help lists them\n"),
        (["teach", "a", "b", "c", "--sampels", "3"], "fsa teach: no option '--sampels'; did you mean '--samples'?\n"),
        (
            ["teach", "a", "b", "c", "--no-dry-rum"],
            "fsa teach: no option '--no-dry-rum'; did you mean '--no-dry-run'?\n",
        ),
        (
            ["teach", "a", "b", "c", "--sam", "3"],
            "fsa teach: no option '--sam'; did you mean '--samples' or '--sampling-extra'?\n",
        ),
        (["doctor", "-x"], "fsa doctor: no option '-x'; fsa doctor --help lists them\n"),
    ],
)
def test_unknown_commands_and_options_suggest_the_nearest_name(words, told, capsys):
    assert cli.main(words) == 2
    assert capsys.readouterr().err == told


@pytest.mark.parametrize("name", sorted(cli.COMMANDS))
def test_every_command_has_examples_that_parse(name, capsys):
    """Only the parser runs, not the command."""
    function = cli.command_of(name)
    lines = examples(function)
    assert lines
    for line in lines:
        program, command, *words = shlex.split(line.partition(" > ")[0])
        assert (program, command) == ("fsa", name)
        parser_of(name, function).parse_args(words)
    with pytest.raises(SystemExit):
        cli.main([name, "--help"])
    assert all(f"  {line}\n" in capsys.readouterr().out + "\n" for line in lines[-1:])


def test_command_names_and_options_may_be_written_with_hyphens_or_underscores(capsys):
    for name, option in (("teach-report", "--price-input"), ("teach_report", "--price_input")):
        assert cli.main([name, "no-store", option, "x"]) == 2
        assert capsys.readouterr().err.startswith(
            f"fsa teach-report: {option}: expected a number, or null, found 'x'\n"
        )


def test_an_error_that_the_user_can_fix_is_printed_without_a_traceback(capsys, monkeypatch):
    from fsa_jax.cli import doctor

    def broken() -> int:
        """Fails."""
        raise DataError("reviews.jsonl:3", expected="a JSON object", found="'['", fix="fix line 3")

    monkeypatch.setattr(doctor, "command", broken)
    assert cli.main(["doctor"]) == 2
    printed = capsys.readouterr().err
    assert "reviews.jsonl:3: expected a JSON object, found '['" in printed
    assert "to fix it: fix line 3" in printed
    assert "Traceback" not in printed


def test_a_closed_output_pipe_is_not_a_traceback():
    command = [sys.executable, "-m", "fsa_jax.cli.main", "doctor"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stderr is not None
    process.stdout.close()
    errors = process.stderr.read()
    assert process.wait(timeout=120) == 141
    assert "its output is no longer read" in errors and "Traceback" not in errors


@pytest.fixture
def unprivileged():
    """Skips the test for root, who may read everything."""
    if os.geteuid():
        yield
        return
    os.seteuid(65534)
    yield
    os.seteuid(0)


@pytest.mark.parametrize("name", ["reviews.txt", "reviews.jsonl"])
def test_a_file_that_may_not_be_read_is_an_error(name, tmp_path, capsys, request):
    folder = tmp_path / "private"
    folder.mkdir()
    (folder / name).write_text("{}\n")
    (folder / name).chmod(0)
    words = ["predict", "none", str(folder / name), str(tmp_path / "out.jsonl")]
    cli.main(words)  # imports what the command needs, while Python's own files can be read
    request.getfixturevalue("unprivileged")
    assert cli.main(words) == 2
    printed = capsys.readouterr().err
    assert name in printed and "check its owner and mode" in printed and "Traceback" not in printed


def test_ctrl_c_during_a_callback_of_the_garbage_collector_is_not_lost():
    """Python ignores exceptions in such callbacks, and JAX has one."""
    program = (
        "import gc, signal, sys, time; from fsa_jax.cli import main as cli\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "def interrupted(phase, info):\n"
        "    gc.callbacks.clear()\n"
        "    raise KeyboardInterrupt\n"
        "def main():\n"
        "    gc.callbacks.append(interrupted)\n"
        "    try:\n"
        "        gc.collect()\n"
        "        time.sleep(60)\n"
        "    except KeyboardInterrupt:\n"
        "        return cli.INTERRUPTED\n"
        "cli.main = main\n"
        "cli.run()\n"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False, timeout=30).returncode == 130
