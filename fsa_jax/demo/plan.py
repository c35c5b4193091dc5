"""The stages of the demo and their dependencies."""

from __future__ import annotations

import fsa_jax
from fsa_jax.common.gin_contents import contents_digest
from fsa_jax.common.training_engine import installed_engine
from fsa_jax.demo.ledger import Stage
from fsa_jax.demo.settings import DemoSettings, Layout

Finetuning = tuple[str, float, int]
"""Arm, learning rate and seed."""


class Plan:
    """Makes the stages of one demo.

    Args:
      settings: sizes of the demo.
      layout: paths in the demo's folder.

    If a recipe or a file that it includes is edited, its stages run again.
    """

    def __init__(self, settings: DemoSettings, layout: Layout) -> None:
        self._settings = settings
        self._layout = layout

    def world(self) -> Stage:
        """Reviews, labels and teacher text."""
        names = ("reviews", "labelled_sentences", "dev_sentences", "test_sentences", "mistake_rate")
        names += ("hallucination_rate", "world_seed")
        return Stage("world", self._values(*names), (self._layout.data,))

    def vocabulary(self) -> Stage:
        """The SentencePiece model."""
        return Stage("vocabulary", self._values("vocabulary_rows"), (self._layout.vocabulary,), [self.world()])

    def distilled(self) -> Stage:
        """The distilled student."""
        settings = self._values("distillation_steps") | {"recipe": self._digest("gin/distill_tiny.gin")}
        return Stage("distilled", settings, (self._layout.distilled,), [self.vocabulary()])

    def finetuned(self, run: Finetuning) -> Stage:
        """One fine-tuned student."""
        arm, rate, seed = run
        settings = self._values("finetuning_steps") | {"recipe": self._digest("gin/finetune_tiny.gin")}
        before = self.distilled() if arm == "distilled" else self.vocabulary()
        return Stage(
            f"finetuned/{arm}/lr{rate:g}-seed{seed}", settings | {"run": run}, (self._layout.finetuned(*run),), [before]
        )

    def tested(self, run: Finetuning) -> Stage:
        """The predictions of one fine-tuned student."""
        arm, rate, seed = run
        settings = {"recipe": self._digest("gin/eval_tiny.gin")}
        name = f"tested/{arm}/lr{rate:g}-seed{seed}"
        return Stage(name, settings, (self._layout.tested(*run),), [self.finetuned(run)])

    def _values(self, *names: str) -> dict[str, object]:
        return {name: getattr(self._settings, name) for name in names}

    def _digest(self, recipe: str) -> str:
        """Hash of a recipe, of the files that it includes, and of the package versions."""
        return contents_digest(recipe, f"{fsa_jax.__version__}, {installed_engine()}\n")
