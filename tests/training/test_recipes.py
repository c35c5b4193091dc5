"""The recipes of gin/ by size: the same settings as the base recipe, except what their size needs."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from fsa_base import run_config
from fsa_jax.training.engine_command import ENGINE_FLAGS
from fsa_jax.training.recipes import SIZES, size_of

ROOT = Path(__file__).parents[2]
MAY_DIFFER = {
    *("BATCH_SIZE", "DROPOUT_RATE", "LEARNING_RATE", "MODEL_DIR", "PERIOD", "ROW_LENGTHS", "TRAIN_STEPS"),
    *("network.T5Config", "train_script.train.eval_period", "train_script.train.eval_steps"),
    "utils.SaveCheckpointConfig.period",
}


@pytest.mark.parametrize("size", SIZES)
def test_the_table_of_sizes_has_the_settings_of_the_model_files(size):
    found: dict = {}
    for name in ("t5", SIZES[size].model):
        config = run_config.read_config(ROOT / "gin" / "models" / f"{name}.gin")
        found |= config.arguments("T5Config")
    assert size_of(found) == size
    recipe = run_config.read_config(ROOT / "gin" / f"distill_{size}.gin")
    assert recipe.macro("PERIOD") == SIZES[size].period


def settings(path: str, monkeypatch) -> set[str]:
    """The bindings of a gin file with all that it includes, one per line; imports do not count."""
    import gin
    from t5x import gin_utils
    from t5x.train import train

    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(sys.modules["__main__"], "train", train, raising=False)
    gin.clear_config()
    gin_utils.parse_gin_flags(["."], [path], [])
    text = gin.config_str(max_line_length=10_000)
    gin.clear_config()
    return {line for line in text.splitlines() if " = " in line}


@pytest.mark.parametrize("stage", ["distill", "finetune"])
def test_a_recipe_differs_from_the_base_recipe_only_in_what_its_size_needs(stage, monkeypatch):
    base = settings(f"gin/{stage}_base.gin", monkeypatch)
    for size in SIZES:
        own = settings(f"gin/{stage}_{size}.gin", monkeypatch)
        names = {line.partition(" = ")[0] for line in own ^ base}
        assert {name for name in names if name not in MAY_DIFFER and not name.startswith("network.T5Config.")} == set()
        assert f"MODEL_DIR = 'runs/{stage}_{size}'" in own
        assert ("network.T5Config.dtype = 'float32'" in own) == (size in ("10m", "60m"))


def test_the_flags_that_are_passed_on_are_those_of_the_engine():
    from absl import flags

    from t5x.configuration import command_line

    before = set(flags.FLAGS)
    if "gin_file" not in before:
        command_line.define_common_flags()
    defined = {name for name in flags.FLAGS if flags.FLAGS.find_module_defining_flag(name) == command_line.__name__}
    shown = {name for name in defined if flags.FLAGS[name].name == name}
    assert shown - {"help", "helpfull", "dry_run"} == set(ENGINE_FLAGS)
