"""The stages of the demo and their dependencies."""

from __future__ import annotations

import hashlib
import importlib.util
import re
from pathlib import Path

import fsa_jax
from fsa_base.errors import MissingDataError
from fsa_jax.common import installed_files
from fsa_jax.common.training_engine import PACKAGE, installed_engine
from fsa_jax.demo.ledger import Stage
from fsa_jax.demo.settings import DemoSettings, Layout

Finetuning = tuple[str, float, int]
"""Arm, learning rate and seed."""

_INCLUDE = re.compile(r"""^[ \t]*include[ \t]+(["'])(.+?)\1""", re.MULTILINE)


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
        digest = hashlib.sha256(f"{fsa_jax.__version__}, {installed_engine()}\n".encode())
        for name, content in sorted(with_includes(recipe).items()):
            digest.update(f"{name} {len(content)}\n".encode() + content)
        return digest.hexdigest()


def with_includes(recipe: str) -> dict[str, bytes]:
    """Contents of a gin file and of all files that it includes, directly or indirectly, by their names in the includes.

    Files are searched in the same places as by the engine: below the working directory, where the engine is started,
    then in the engine's folder, then in the folder of fsa_jax's gin files.

    Raises:
      MissingDataError: a file is missing.
    """
    engine = importlib.util.find_spec(PACKAGE)
    packages = [Path(place).parent for place in (engine and engine.submodule_search_locations) or ()]
    places = (Path.cwd(), *packages, installed_files.root())
    found: dict[str, bytes] = {}
    names = [recipe]
    while names:
        name = names.pop()
        if name in found:
            continue
        files = [place / name for place in places if (place / name).is_file()]
        if not files:
            searched = " or ".join(map(str, places))
            raise MissingDataError(name, expected=f"it in {searched}", found="nothing", fix="correct the include")
        found[name] = files[0].read_bytes()
        names += [match[2] for match in _INCLUDE.finditer(found[name].decode())]
    return found
