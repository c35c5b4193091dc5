"""The settings of a benchmark, and the check that a benchmark that is started again has the same ones."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fsa_base import untrusted_json
from fsa_base.disk import replacing
from fsa_base.errors import SettingError, require_number
from fsa_jax.common.gin_contents import contents_digest
from fsa_jax.common.records import Record

SEEDS = (42, 52, 62, 72, 82, 142, 152, 162, 172, 182)
"""The seeds of the released recipe (arXiv 2412.18552)."""
EPOCHS = 20
BATCH_SIZE = 16
SETTINGS_FILE = "benchmark.json"
OVERLAY = "gin/shared/exact_batches.gin"
"""The gin file after the recipe of every training."""


class BenchmarkSettings(Record):
    """What a benchmark trains and scores.

    Attributes:
      tasks: datasets, such as ``atsa/rest14``.
      seeds: random seeds of fine-tuning.
      train_shares: shares of the training sentences.
      learning_rates: peak learning rates to search on validation data; empty for that of the recipe.
      epochs: epochs of fine-tuning, each with a validation; the best one is scored.
      batch_size: sentences of a step.
      share_seed: random seed of the choice of a share.
      together: number of seeds that are trained together; None to choose by measured speed.
    """

    tasks: tuple[str, ...]
    seeds: tuple[int, ...] = SEEDS
    train_shares: tuple[float, ...] = (1.0,)
    learning_rates: tuple[float, ...] = ()
    epochs: int = EPOCHS
    batch_size: int = BATCH_SIZE
    share_seed: int = 0
    together: int | None = None

    def check(self) -> BenchmarkSettings:
        """Checks the values; returns self.

        Raises:
          SettingError: a value is out of range, or given twice.
        """
        for name in ("epochs", "batch_size", "together"):
            require_number(f"--{name.replace('_', '-')}", getattr(self, name), 1, whole=True)
        for name in ("tasks", "seeds", "train_shares", "learning_rates"):
            values = getattr(self, name)
            option = f"--{name.replace('_', '-').removesuffix('s')}"
            if len(set(values)) < len(values):
                raise SettingError(option, expected="different values", found=str(list(values)), fix="leave one out")
            if not values and name != "learning_rates":
                raise SettingError(option, expected="one value or more", found="none", fix=f"leave out {option}")
        for share in self.train_shares:
            if not 0 < share <= 1:
                raise SettingError("--train-share", expected="above 0, up to 1", found=str(share), fix="0.1 is a tenth")
        for rate in self.learning_rates:
            require_number("--learning-rate", rate, 0, above=True)
        return self

    def recipe(self) -> dict[str, Any]:
        """The settings that change the result of a run; a benchmark may get more tasks, seeds, shares and rates."""
        return {"epochs": self.epochs, "batch_size": self.batch_size, "share_seed": self.share_seed}


def record_settings(
    output: Path,
    settings: BenchmarkSettings,
    students: dict[str, Any],
    flags: Sequence[str],
    tasks: Mapping[str, Any] | None = None,
) -> None:
    """Writes the settings into the output folder; refuses to mix runs of different recipes or students in one folder.

    Students, tasks, seeds, shares and learning rates may be added.

    Args:
      output: output folder.
      settings: the settings.
      students: identity of each student by name.
      flags: flags that are passed on to the engine.
      tasks: identity of each task's sentences by name.

    Raises:
      SettingError: the folder has runs with another recipe, or a student of the same name that is another one.
    """
    file = output / SETTINGS_FILE
    recipe = {**settings.recipe(), **_recipe_of(flags)}
    named = {
        **{f"student {name}": json.loads(json.dumps(identity)) for name, identity in students.items()},
        **{f"task {name}": identity for name, identity in (tasks or {}).items()},
    }
    if file.exists():
        try:
            known = untrusted_json.parse(file.read_bytes())
            earlier, found = dict(known["recipe"]), dict(known["identities"])
        except (untrusted_json.UntrustedJsonError, KeyError, TypeError, ValueError) as error:
            raise SettingError(
                file, expected="the settings of a benchmark", found=str(error), fix="choose another --output"
            ) from error
        _require_same(output, "recipe", earlier, recipe)
        for name in sorted(set(found) & set(named)):
            _require_same(output, name, found[name], named[name])
        named = {**found, **named}
    content = {"recipe": recipe, "identities": named, "settings": settings.model_dump(mode="json")}
    output.mkdir(parents=True, exist_ok=True)
    with replacing(file) as partial:
        partial.write_text(json.dumps(content, indent=1))


def _recipe_of(flags: Sequence[str]) -> dict[str, Any]:
    """What flags of the engine and the gin files of every training mean for its result."""
    # The number of rows into which a batch is packed may be raised, as the error of a full batch says.
    counting = [flag for flag in flags if not flag.startswith("--gin.train/utils.DatasetConfig.batch_size=")]
    given = [flag.removeprefix("--gin_file=") for flag in flags if flag.startswith("--gin_file=")]
    return {"engine flags": counting, "gin files": {name: contents_digest(name) for name in (OVERLAY, *given)}}


def _require_same(output: Path, what: str, earlier: dict[str, Any], now: dict[str, Any]) -> None:
    changed = [name for name in {**earlier, **now} if earlier.get(name) != now.get(name)]
    if changed:
        name = changed[0]
        raise SettingError(
            f"--output {output}",
            expected=f"runs with the {what} of this command: {name} = {now.get(name)}",
            found=f"runs with {name} = {earlier.get(name)}",
            fix="choose another --output, or give the earlier settings",
        )
