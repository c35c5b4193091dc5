"""The demo's stages and what each of them hangs on."""

from __future__ import annotations

import hashlib
from pathlib import Path

from fsa_jax.demo.settings import DemoSettings, Layout
from fsa_jax.demo.stages import Stage

Finetuning = tuple[str, float, int]
"""Arm, learning rate and seed."""

_STUDENT = "gin/models/t5_demo.gin"


class Plan:
    """Makes the stages of one demo.

    Args:
      settings: its sizes.
      layout: its folder.
      recipes: folder of ``gin/``; an edited recipe makes its stages run again.
    """

    def __init__(self, settings: DemoSettings, layout: Layout, recipes: Path) -> None:
        self._settings = settings
        self._layout = layout
        self._recipes = recipes

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
        """One fine-tuned student's predictions."""
        arm, rate, seed = run
        settings = {"recipe": self._digest("gin/eval_tiny.gin")}
        name = f"tested/{arm}/lr{rate:g}-seed{seed}"
        return Stage(name, settings, (self._layout.tested(*run),), [self.finetuned(run)])

    def _values(self, *names: str) -> dict[str, object]:
        return {name: getattr(self._settings, name) for name in names}

    def _digest(self, recipe: str) -> str:
        texts = [(self._recipes / file).read_bytes() for file in (recipe, _STUDENT)]
        return hashlib.sha256(b"".join(texts)).hexdigest()
