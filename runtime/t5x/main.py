"""``python -m t5x.main --run_mode=train|eval|infer|precompile``: one command for all of them."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from absl import flags

from fsa_base.errors import require_choice
from t5x import infer as infer_command  # In __main__, gin's run files look for the function `infer`.
from t5x.configuration import command_line

_MODES = {
    "train": ("t5x.train", ["train"]),
    "eval": ("t5x.eval", ["evaluate"]),
    "infer": ("t5x.infer", ["infer", "create_task_from_tfexample_file"]),
    "precompile": ("t5x.precompile", ["train"]),
}
_ELSEWHERE = {"export": "fsa export-hf or fsa export-ct2 writes what serving stacks load"}


def _functions() -> Sequence[Callable[..., Any]]:
    mode = flags.FLAGS.run_mode
    require_choice("--run_mode", mode, _MODES, _ELSEWHERE.get(mode or "", "{setting}={choice}"))
    module_name, names = _MODES[mode]
    module = importlib.import_module(module_name)
    return [getattr(module, name) for name in names]


def _arguments() -> Mapping[str, Any]:
    return infer_command.flag_arguments() if flags.FLAGS.run_mode == "infer" else {}


USAGE = f"""
One command for training, evaluation and inference: --run_mode={"|".join(_MODES)}.

  python -m t5x.main --run_mode=train --gin_file=gin/distill_base.gin --gin.MODEL_DIR="'runs/base'"

precompile prints how much memory the training step needs. --dry_run prints the configuration and stops.
See also python -m t5x.train --help, t5x.eval --help and t5x.infer --help.
"""


def main() -> None:
    """The command ``t5x``."""
    command_line.define_common_flags()
    infer_command.define_flags()
    flags.DEFINE_string("run_mode", None, f"{', '.join(_MODES)}.")
    command_line.run(USAGE, _functions, _arguments)


if __name__ == "__main__":
    main()
