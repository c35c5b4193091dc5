"""The training commands of the demo, in the form that a user could type."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path

from fsa_jax.benchmark.processes import Command
from fsa_jax.common.paths import DATA_DIR_VARIABLE
from fsa_jax.common.training_engine import KEEPING_MEMORY
from fsa_jax.demo.settings import DemoSettings, Layout
from fsa_jax.tokenizers.t5 import VOCABULARY_VARIABLE

TASK = "fsa_atsa_rest14"

EVALUATIONS = 2
"""Number of evaluations of a training, at equal distances, with the last one at its end."""


class Commands:
    """Makes the commands of a demo. They run in the working directory; the engine finds the gin files of fsa_jax."""

    def __init__(self, settings: DemoSettings, layout: Layout) -> None:
        self._settings = settings
        self._layout = layout

    def distil(self) -> Command:
        """The distillation command; its progress is shown on the terminal."""
        steps = self._settings.distillation_steps
        bindings = {
            "MODEL_DIR": str(self._layout.distilled),
            "TRAIN_STEPS": steps,
            "PERIOD": _period(steps, EVALUATIONS),
            "RANDOM_SEED": self._settings.world_seed,
            "VOCABULARY_ROWS": self._settings.vocabulary_rows,
        }
        return self._command("t5x.train", "gin/distill_tiny.gin", bindings)

    def finetune(self, arm: str, rate: float, seed: int) -> Command:
        """The fine-tuning command of one arm (``scratch`` or ``distilled``)."""
        steps = self._settings.finetuning_steps
        directory = self._layout.finetuned(arm, rate, seed)
        distilled = self._layout.distilled / f"checkpoint_{self._settings.distillation_steps}"
        bindings = {
            "MODEL_DIR": str(directory),
            "INITIAL_CHECKPOINT_PATH": str(distilled) if arm == "distilled" else "",
            "TRAIN_STEPS": steps,
            "EVAL_PERIOD": _period(steps, EVALUATIONS),
            "LEARNING_RATE": rate,
            "RANDOM_SEED": seed,
            "VOCABULARY_ROWS": self._settings.vocabulary_rows,
        }
        return self._command(
            "t5x.train", "gin/finetune_tiny.gin", bindings, directory.with_name(f"{directory.name}.log")
        )

    def evaluate(self, arm: str, rate: float, seed: int) -> Command:
        """The command that scores a fine-tuned student on the test sentences."""
        directory = self._layout.finetuned(arm, rate, seed)
        output = self._layout.tested(arm, rate, seed)
        bindings = {
            "CHECKPOINT_PATH": str(directory / f"checkpoint_{self._settings.finetuning_steps}"),
            "EVAL_OUTPUT_DIR": str(output),
            "VOCABULARY_ROWS": self._settings.vocabulary_rows,
        }
        return self._command("t5x.eval", "gin/eval_tiny.gin", bindings, output.with_name(f"{output.name}.log"))

    def _command(self, module: str, gin_file: str, bindings: Mapping[str, object], log: Path | None = None) -> Command:
        words = [f"--gin.{name}={value!r}" for name, value in bindings.items()]
        environment = {
            **KEEPING_MEMORY,
            # The students are too small to profit from a GPU, and parallel trainings could not share its memory.
            "JAX_PLATFORMS": "cpu",
            **os.environ,
            DATA_DIR_VARIABLE: str(self._layout.data),
            VOCABULARY_VARIABLE: str(self._layout.vocabulary),
        }
        return Command((sys.executable, "-m", module, f"--gin_file={gin_file}", *words), environment, Path.cwd(), log)


def _period(steps: int, times: int) -> int:
    """Steps between evaluations, for ``times`` evaluations or the next smaller number that divides the steps."""
    return next(steps // count for count in range(times, 0, -1) if steps % count == 0)
