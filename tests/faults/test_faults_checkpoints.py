"""Damage to checkpoints, file by file: it is never accepted silently, and runs continue
from the right checkpoint.

A fault is one of: a file truncated, changed, zeroed, extended, deleted or added, or a folder deleted.
"""

from __future__ import annotations

import json
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from campaign import Campaign
from damage import damaged
from flax.traverse_util import flatten_dict

from fsa_base.errors import CheckpointError
from fsa_jax.weights.weight_checkpoints import load_weights, save_weights

tiny_run = pytest.importorskip("tiny_run")
pytest.importorskip("t5x.train")

SAVE = {"save_dataset": True}
STEPS = (0, 2, 4, 6)
TRAININGS_SECONDS = 60.0
"""A case of whole runs is two trainings, or starts of one with up to four checkpoints; they took up to 21 s on one of
two busy cores."""


def _fault(checkpoint: Path, rng: random.Random) -> str:
    """Makes one fault in one file or folder of ``checkpoint``; returns its description."""
    entries = sorted(checkpoint.rglob("*"))
    entry = rng.choice([*entries, *[folder for folder in entries if folder.name in ("state", "dataset")]])
    name = entry.relative_to(checkpoint)
    if entry.is_dir():
        shutil.rmtree(entry)
        return f"{name}/ deleted"
    data = entry.read_bytes()
    kind = rng.choice(["bytes"] * 8 + ["delete", "empty", "add"])
    if kind == "delete":
        entry.unlink()
        return f"{name} deleted"
    if kind == "add" or (kind == "empty" and not data):
        (entry.parent / f"{entry.name}0").write_bytes(data)
        return f"{name}0 added"
    if kind == "empty":
        entry.write_bytes(b"")
        return f"{name} emptied"
    said, changed = damaged(data, rng) if data else ("bytes inserted", rng.randbytes(9))
    entry.write_bytes(changed)
    return f"{name}: {said}"


class Run:
    """A real run of a tiny T5 in ``directory``, and the state that a later start would restore."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        tiny_run.run(directory, STEPS[-1], period=2, save=SAVE)
        from t5x import partitioning
        from t5x.data import datasets
        from t5x.train import TrainingSetup
        from t5x.train_state import TrainStateInitializer

        self._setup = TrainingSetup(
            model=tiny_run.model(),
            train_dataset_cfg=tiny_run.dataset(),
            partitioner=partitioning.PjitPartitioner(num_partitions=1),
            random_seed=0,
            use_hardware_rng=False,
            get_dataset_fn=datasets.get_dataset,
            train_state_initializer_cls=TrainStateInitializer,
            verify_matching_vocabs_fn=None,
            save_iterator=True,
        )
        self.values = {step: self._restored(directory, "error", step)[1] for step in STEPS}

    def _restored(self, directory: Path, on_corrupt: str, step: int | None = None) -> tuple[int, dict[str, Any]]:
        if step is not None:
            alone = directory.parent / "alone"
            shutil.rmtree(alone, ignore_errors=True)
            shutil.copytree(directory / f"checkpoint_{step}", alone / f"checkpoint_{step}")
            directory = alone
        from t5x.hooks.checkpoints import first_state

        setup = self._setup
        state, is_resuming = first_state(
            setup.initializer, str(directory), None, setup.init_rng, setup.data, on_corrupt
        )
        assert is_resuming
        values = {name: np.asarray(value) for name, value in flatten_dict(state.state_dict(), sep="/").items()}
        batch = {f"batch/{name}": value for name, value in next(setup.data).items()}
        return int(state.step), values | batch

    def restored(self, directory: Path, on_corrupt: str) -> tuple[int, bool]:
        """Returns the step that a start in ``directory`` restores, and whether all values are those of that step.

        The values are the train state and the next batch, compared bit by bit.
        """
        step, found = self._restored(directory, on_corrupt)
        expected = self.values.get(step, {})
        equal = found.keys() == expected.keys() and all(
            value.tobytes() == expected[name].tobytes() for name, value in found.items()
        )
        return step, equal


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return Run(tmp_path_factory.mktemp("checkpoints") / "run")


def _copy(source: Path, target: Path, steps: tuple[int, ...] = STEPS) -> Path:
    shutil.rmtree(target, ignore_errors=True)
    for step in steps:
        shutil.copytree(source / f"checkpoint_{step}", target / f"checkpoint_{step}")
    return target


def test_no_fault_in_a_checkpoint_of_a_run_is_accepted(
    run: Run, campaign: Campaign, cases: Callable[[int, int], int], rng: random.Random, tmp_path: Path
) -> None:
    for number in range(cases(20, 1200)):
        copy = _copy(run.directory, tmp_path / "run", STEPS[-1:])
        said = _fault(copy / f"checkpoint_{STEPS[-1]}", rng)

        def attempt(copy: Path = copy, said: str = said) -> str:
            _, equal = run.restored(copy, "error")
            raise AssertionError(f"accepted in silence, values {'are equal' if equal else 'DIFFER'}: {said}")

        campaign.run(f"{number}: {said}", attempt)


def test_a_run_continues_from_the_newest_undamaged_checkpoint(
    run: Run, campaign: Campaign, cases: Callable[[int, int], int], rng: random.Random, tmp_path: Path
) -> None:
    for number in range(cases(4, 150)):
        copy = _copy(run.directory, tmp_path / "run")
        broken = STEPS[len(STEPS) - rng.choice([1, 1, 2, 3]) :]
        said = {step: _fault(copy / f"checkpoint_{step}", rng) for step in broken}

        def attempt(copy: Path = copy, broken: tuple[int, ...] = broken) -> str:
            step, equal = run.restored(copy, "previous")
            assert step == STEPS[-1 - len(broken)] and equal, f"went on from {step}, equal: {equal}"
            aside = {path.name for path in copy.glob("*.corrupt")}
            assert aside == {f"checkpoint_{step}.corrupt" for step in broken}
            return "went on from the newest whole one"

        campaign.run(f"{number}: {said}", attempt, limit=TRAININGS_SECONDS)


def test_faults_in_checkpoints_without_checksums_end_without_a_traceback(
    run: Run,
    campaign: Campaign,
    cases: Callable[[int, int], int],
    rng: random.Random,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """Checkpoints of version 528859f are refused, or read with the message that they are not verified."""
    for number in range(cases(5, 200)):
        copy = _copy(run.directory, tmp_path / "run", STEPS[-2:])
        for step in STEPS[-2:]:
            _as_528859f_wrote_it(copy / f"checkpoint_{step}", step)
        said = _fault(copy / f"checkpoint_{STEPS[-1]}", rng)
        capfd.readouterr()

        def attempt(copy: Path = copy) -> str:
            step, equal = run.restored(copy, "previous")
            assert "not verified" in capfd.readouterr().err
            if step != STEPS[-1]:
                assert step == STEPS[-2] and equal
                return "went on from the checkpoint before"
            return f"not verified, values {'equal' if equal else 'other'}"

        campaign.run(f"{number}: {said}", attempt)


def _as_528859f_wrote_it(checkpoint: Path, step: int) -> None:
    for file in checkpoint.rglob("checksums.sha256"):
        file.unlink()
    (checkpoint / "commit_success.txt").write_text(f"checkpoint of step {step}, complete\n")
    metadata = json.loads((checkpoint / "_CHECKPOINT_METADATA").read_text())
    (checkpoint / "_CHECKPOINT_METADATA").write_text(json.dumps(metadata | {"custom_metadata": {"step": step}}))


def test_no_fault_in_imported_weights_is_accepted(
    campaign: Campaign, cases: Callable[[int, int], int], rng: random.Random, tmp_path: Path
) -> None:
    values = np.random.default_rng(0)
    target = {f"layer_{i}": {"kernel": values.normal(size=(16, 8)).astype(np.float32)} for i in range(3)}
    whole = save_weights(tmp_path, 0, target)
    jax.tree.map(np.testing.assert_array_equal, load_weights(whole), target)
    for number in range(cases(10, 600)):
        copy = _copy(tmp_path, tmp_path / "copy", (0,)) / "checkpoint_0"
        said = _fault(copy, rng)

        def attempt(copy: Path = copy, said: str = said) -> str:
            found = load_weights(copy)
            equal = jax.tree.map(np.array_equal, found, target)
            raise AssertionError(f"accepted in silence, equal: {equal}: {said}")

        campaign.run(f"{number}: {said}", attempt)


@pytest.mark.skipif(os.environ.get("FAULTS") != "long", reason="whole runs: make faults")
def test_runs_resumed_after_faults_equal_the_run_without_faults(
    run: Run, campaign: Campaign, rng: random.Random, tmp_path: Path
) -> None:
    reference = tiny_run.losses(run.directory)
    for number in range(10):
        shutil.rmtree(tmp_path / "run", ignore_errors=True)
        copy = shutil.copytree(run.directory, tmp_path / "run")
        broken = STEPS[len(STEPS) - rng.choice([1, 1, 2, 3]) :]
        said = {step: _fault(copy / f"checkpoint_{step}", rng) for step in broken}

        def attempt(copy: Path = copy, broken: tuple[int, ...] = broken) -> str:
            with pytest.raises(CheckpointError):
                tiny_run.run(copy, STEPS[-1], period=2, save=SAVE)
            tiny_run.run(copy, STEPS[-1], period=2, save=SAVE, on_corrupt_checkpoint="previous")
            assert tiny_run.losses(copy) == reference
            step, equal = run.restored(copy, "error")
            assert step == STEPS[-1] and equal
            return f"went on from checkpoint_{STEPS[-1 - len(broken)]} to the same end"

        campaign.run(f"{number}: {said}", attempt, limit=TRAININGS_SECONDS)
