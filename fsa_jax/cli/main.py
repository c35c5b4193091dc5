"""Entry point of the ``fsa`` console script.

``fsa --help`` lists the commands without importing any of them, so it answers at once. Each command is
a typed function ``command`` in its own module; jsonargparse turns its signature and docstring into
options, ``--help`` and ``--config FILE.yaml``.
"""

from __future__ import annotations

import importlib
import os
import sys

import fsa_jax
from fsa_base import extras
from fsa_base.errors import FsaError, SettingError

COMMANDS: dict[str, str] = {
    "demo": "the whole flow on a generated world: teach, distil, fine-tune, score, report",
    "sample": "review dumps to a stratified, deduplicated sample, in constant memory",
    "teach": "asks a teacher (vLLM here, or any OpenAI-compatible endpoint) about reviews; resumes by itself",
    "teach-report": "tokens, speed, GPU-hours, cost and failures of a store of generations, by teacher and prompt",
    "check": "teacher text: parse, ground, fix, keep or drop; one page to read",
    "import-hf": "T5, Flan-T5, Llama-3.2, Qwen2.5 and Qwen3 weights to a checkpoint that training starts from",
    "corpus": "checked teacher text as a TFDS dataset with provenance, statistics and a card",
    "export-hf": "a student as a Hugging Face model, checked against PyTorch; --push sends it to the hub",
    "export-ct2": "a student as a CTranslate2 model, quantised and checked",
    "predict": "opinions for every review of a file, with JAX or CTranslate2",
    "doctor": "versions, devices, engine, data and vocabulary; what is missing and how to fix it; checks checkpoints",
}
"""Subcommand to one-line help; ``a-b`` lives in ``fsa_jax/cli/a_b.py``."""


def _usage() -> str:
    width = max(map(len, COMMANDS))
    lines = [f"  {name:<{width}}  {text}" for name, text in COMMANDS.items()]
    return "\n".join(
        ["usage: fsa [--version] COMMAND [OPTION ...]", "", "commands:", *lines, "", "fsa COMMAND --help says more."]
    )


def main(arguments: list[str] | None = None) -> int:
    """Runs one command; returns its exit status (0 done, 2 an error that the user can fix)."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if not arguments or arguments[0] in ("-h", "--help"):
        print(_usage())
        return 0
    if arguments[0] == "--version":
        print(f"fsa_jax {fsa_jax.__version__}")
        return 0
    name, rest = arguments[0], arguments[1:]
    if name not in COMMANDS:
        print(f"fsa: no command {name!r}\n\n{_usage()}", file=sys.stderr)
        return 2
    from jsonargparse import auto_cli

    from fsa_jax.cli.arguments import spelt_out

    module = importlib.import_module(f"fsa_jax.cli.{name.replace('-', '_')}")
    try:
        status = auto_cli(module.command, args=spelt_out(module.command, rest), prog=f"fsa {name}", as_positional=True)
    except FsaError as error:
        print(f"fsa {name}: {error}", file=sys.stderr)
        return 2
    except ModuleNotFoundError as error:
        for_user = extras.error_of(error)
        if for_user is None:
            raise
        print(f"fsa {name}: {for_user}", file=sys.stderr)
        return 2
    except PermissionError as error:
        where = error.filename or "a file"
        found = str(error.strerror or error)
        told = SettingError(where, expected="the right to it", found=found, fix="see to its owner and mode")
        print(f"fsa {name}: {told}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"fsa {name}: stopped", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # Its reader (`| head`) has gone. Python would complain once more when it closes its output.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        print(f"fsa {name}: stopped, nobody reads its output", file=sys.stderr)
        return 141
    return int(status or 0)


if __name__ == "__main__":
    sys.exit(main())
