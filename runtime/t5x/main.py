"""``python -m t5x.main --run_mode=train|eval|infer|precompile``: one command for all of them."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from absl import flags

from fsa_jax.errors import SettingError
from t5x import command_line
from t5x import infer as infer_command
from t5x import train as train_command  # `train` and `infer` here are what gin's run files find in __main__.

_MODES = {
    "train": ("t5x.train", ["train"]),
    "eval": ("t5x.eval", ["evaluate"]),
    "infer": ("t5x.infer", ["infer", "create_task_from_tfexample_file"]),
    "precompile": ("t5x.precompile", ["train"]),
}
_ELSEWHERE = {"export": "fsa export-hf or fsa export-ct2 writes what serving stacks load"}


def _functions() -> Sequence[Callable[..., Any]]:
    mode = flags.FLAGS.run_mode
    if mode not in _MODES:
        raise SettingError(
            "--run_mode",
            expected=", ".join(_MODES),
            found=repr(mode) if mode else "nothing",
            fix=_ELSEWHERE.get(mode or "", "--run_mode=train"),
        )
    module_name, names = _MODES[mode]
    module = importlib.import_module(module_name)
    return [getattr(module, name) for name in names]


def _prepare() -> None:
    if flags.FLAGS.run_mode in ("train", "precompile"):
        train_command.prepare()


def _arguments() -> Mapping[str, Any]:
    return infer_command.flag_arguments() if flags.FLAGS.run_mode == "infer" else {}


def main() -> None:
    """The command ``t5x``."""
    command_line.define_common_flags()
    train_command.define_flags()
    infer_command.define_flags()
    flags.DEFINE_string("run_mode", None, f"{', '.join(_MODES)}.")
    flags.DEFINE_bool("dry_run", False, "Parse and print the configuration, and stop; writes nothing.")
    command_line.run(_functions, _prepare, _arguments)


if __name__ == "__main__":
    main()
