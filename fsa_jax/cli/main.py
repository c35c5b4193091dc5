"""Entry point of the ``fsa`` console script.

``fsa --help`` lists the commands without importing them, so it is fast. Each command is a typed function ``command`` in
its own module; jsonargparse turns its signature and docstring into options, ``--help`` and ``--config FILE.yaml``.
"""

from __future__ import annotations

import importlib
import os
import signal
import sys
import threading
from collections.abc import Callable
from typing import NoReturn

import fsa_jax
from fsa_base import extras
from fsa_base.errors import FsaError, SettingError

INTERRUPTED = 130
"""Exit status after Ctrl-C."""
COMMANDS: dict[str, str] = {
    "demo": "run the whole flow on generated data: teach, distil, fine-tune, score, report",
    "sample": "draw a stratified, deduplicated sample from review dumps, in constant memory",
    "teach": "ask a teacher (vLLM here, or any OpenAI-compatible endpoint) about reviews; can be resumed",
    "teach-report": "show tokens, speed, GPU-hours, cost and failures of a store of generations",
    "check": "check teacher text against the reviews, fix it, keep or drop it; writes an HTML report",
    "import-hf": "convert T5, Flan-T5, Llama-3.2, Qwen2.5 or Qwen3 weights to a checkpoint to start training from",
    "corpus": "build a TFDS dataset from checked teacher text, with provenance, statistics and a card",
    "labels": "show what is read from a file or folder of labels of your own, and convert them to the project's layout",
    "train": "distil a student from teacher text, or fine-tune it on labels",
    "zero-shot": "ask distilled students for polarities without fine-tuning, calibrated, with intervals",
    "eval": "score a fine-tuned student on the test sentences",
    "benchmark": "fine-tune and score students with several seeds; every prediction is stored",
    "compare": "compare students on stored predictions: differences with intervals and tests over seeds and sentences",
    "export-hf": "export a student as a Hugging Face model, checked with PyTorch; --push uploads it to the Hub",
    "export-ct2": "export a student as a CTranslate2 model, quantised and checked",
    "push": "upload an exported student or a corpus to the Hugging Face Hub",
    "predict": "predict opinions for every review of a file, with JAX or CTranslate2",
    "completion": "print a script that completes commands, options and files in bash, zsh or fish",
    "doctor": "show versions, devices, engine, data and vocabulary, and how to fix problems; check checkpoints",
}
"""One-line help by subcommand; the module of ``a-b`` is ``fsa_jax/cli/a_b.py``."""


def _usage() -> str:
    width = max(map(len, COMMANDS))
    lines = [f"  {name:<{width}}  {text}" for name, text in COMMANDS.items()]
    return "\n".join(
        ["usage: fsa [--version] COMMAND [OPTION ...]", "", "commands:", *lines, "", "options: fsa COMMAND --help"]
    )


def command_of(name: str) -> Callable[..., int | None]:
    """The function of a command."""
    return importlib.import_module(f"fsa_jax.cli.{name.replace('-', '_')}").command


def _failed(name: str, error: FsaError) -> int:
    """Prints an error, which may quote names in untrusted files; returns the exit status."""
    from fsa_jax.common.terminal import printable

    print(printable(f"fsa {name}: {error}"), file=sys.stderr)
    return 2


def main(arguments: list[str] | None = None) -> int:
    """Runs one command; returns its exit status (0: done, 2: an error that the user can fix)."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if not arguments or arguments[0] in ("-h", "--help"):
        print(_usage())
        return 0
    if arguments[0] == "--version":
        print(f"fsa_jax {fsa_jax.__version__}")
        return 0
    from jsonargparse import auto_cli

    from fsa_jax.cli.command_parser import settings_of, unknown_name

    name, rest = arguments[0].replace("_", "-"), arguments[1:]
    if name not in COMMANDS:
        print(f"fsa: {unknown_name('command', arguments[0], COMMANDS, 'fsa --help')}", file=sys.stderr)
        return 2
    command = command_of(name)
    try:
        status = auto_cli(command, args=rest, **settings_of(name, command))
    except FsaError as error:
        return _failed(name, error)
    except ModuleNotFoundError as error:
        for_user = extras.error_of(error)
        if for_user is None:
            raise
        return _failed(name, for_user)
    except PermissionError as error:
        where = error.filename or "a file"
        found = str(error.strerror or error)
        return _failed(name, SettingError(where, expected="access rights", found=found, fix="check its owner and mode"))
    except KeyboardInterrupt:
        print(f"fsa {name}: stopped", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        # The reader of the output (`| head`) has ended. Without this, Python would print another error at its exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        print(f"fsa {name}: stopped, because its output is no longer read", file=sys.stderr)
        return 141
    return int(status or 0)


def run() -> NoReturn:
    """The console script: runs the command of ``sys.argv`` and ends the process with its exit status."""
    sys.unraisablehook = _unraisable
    status = main()
    if status == INTERRUPTED:
        # Threads of JAX may still compute; if their libraries end before them, that is a segmentation fault.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    sys.exit(status)


def _unraisable(unraisable: sys.UnraisableHookArgs) -> None:
    """Interrupts again if Ctrl-C came during a callback of the garbage collector, where Python ignores exceptions."""
    if unraisable.exc_type is KeyboardInterrupt:
        threading.Timer(0.01, os.kill, (os.getpid(), signal.SIGINT)).start()
    else:
        sys.__unraisablehook__(unraisable)


if __name__ == "__main__":
    run()
