"""``python -m t5x.train_seeds``: train one recipe with several random seeds, together on the same devices.

A run with seed 42 computes what ``t5x.train`` with ``RANDOM_SEED = 42`` computes: the same batches, the same initial
weights and, if its batches have as many rows, the same dropout. Where the number of rows is chosen
(t5x/data/exact_batches.py), a group takes the largest of its seeds. The seeds of a group share one compiled step, which
is the trainer's step under ``jax.vmap``: small models then use a large device better. If their number is a multiple of
the mesh's data axis, each device trains its own seeds; otherwise the batches are split, as in ``t5x.train``.

``MODEL_DIR/seed-42`` has the weights with the best score on the evaluated task, its scores after every epoch and the
configuration, in the form of a MODEL_DIR. ``MODEL_DIR/group-42_52`` has the state of the group after the newest epoch,
so that a run that was killed continues from there; it is deleted when the group has ended.
"""

from __future__ import annotations

import copy
import dataclasses
import functools
import json
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags
from jax.sharding import PartitionSpec

from fsa_base import checkpoint_files
from fsa_base.disk import replacing
from fsa_base.errors import SettingError
from fsa_base.runs import read_rows
from t5x.checkpointing import manager, restoring
from t5x.checkpointing.config import CheckpointConfig, RestoreCheckpointConfig
from t5x.checkpointing.manager import CheckpointManager
from t5x.configuration import command_line
from t5x.data import datasets
from t5x.data.datasets import DatasetConfig
from t5x.hooks.run_directory import require_writable
from t5x.inference import evaluation
from t5x.models.base import BaseModel
from t5x.partitioning import PjitPartitioner
from t5x.progress import announce
from t5x.train import TrainingSetup
from t5x.train_state import TrainState, TrainStateInitializer
from t5x.trainer import StepMemory, Trainer, device_memory_limit

LOSS = "cross_ent_loss"
"""Metric of a step; with ``LOSS_NORMALIZING_FACTOR = "NUM_REAL_TARGET_TOKENS"`` the loss per target token."""
RESULT = "result.json"
PROGRESS = "progress.json"
_GROUP = "group-"
_ENDED = "ended-"


@dataclasses.dataclass
class SeedResult:
    """What is known of the run of one seed, in ``MODEL_DIR/seed-N/result.json`` when it has ended.

    Attributes:
      seed: Random seed of the data order, of dropout and of initial weights.
      together: Seeds that were trained in the same group, itself included.
      scores: The score after each epoch.
      losses: The loss of every step.
      best_epoch: Epoch, from 1, with the best score; the later one if two are equal.
      seconds: Wall time of the group's training and evaluation, divided by the number of its seeds.
      rows: Rows of a batch.
    """

    seed: int
    together: list[int]
    scores: list[float] = dataclasses.field(default_factory=list)
    losses: list[float] = dataclasses.field(default_factory=list)
    best_epoch: int = 0
    seconds: float = 0.0
    rows: int = 0


def seed_directory(model_dir: str | Path, seed: int) -> Path:
    """Returns the directory of one seed."""
    return Path(model_dir) / f"seed-{seed}"


def train(
    *,
    model: BaseModel,
    train_dataset_cfg: DatasetConfig,
    infer_eval_dataset_cfg: DatasetConfig,
    checkpoint_cfg: CheckpointConfig,
    partitioner: PjitPartitioner,
    trainer_cls: Callable[..., Trainer],
    model_dir: str,
    total_steps: int,
    eval_period: int,
    summarize_config_fn: Callable[[str, Any, int], None],
    inference_evaluator_cls: Callable[..., Any] = evaluation.seqio_evaluator,
    use_hardware_rng: bool = False,
    seeds: Sequence[int] = (42,),
    together: int = 1,
    measure: Sequence[int] = (),
    score: str = "f1",
    **unused: Any,
) -> None:
    """Trains every seed that has not ended, in groups, and scores each after every epoch.

    Args:
      model: Network, vocabularies and optimizer.
      train_dataset_cfg: Dataset to train on; its seed is replaced.
      infer_eval_dataset_cfg: Dataset of one task that is decoded and scored after every epoch.
      checkpoint_cfg: Which checkpoint to start from, and the dtype of the weights that are saved.
      partitioner: Distributes arrays over the devices.
      trainer_cls: Creates the trainer.
      model_dir: Directory of the runs of all seeds.
      total_steps: Last step.
      eval_period: Steps of an epoch.
      summarize_config_fn: ``fn(model_dir, metric_writer, step)``, writes the configuration.
      inference_evaluator_cls: ``seqio.Evaluator``, or a class with the same interface.
      use_hardware_rng: Use a faster random generator.
      seeds: Random seeds, all different.
      together: Number of seeds of a group.
      measure: Sizes of groups to measure, instead of training.
      score: Name of the metric by which the best weights are chosen.
      unused: Other arguments of :func:`t5x.train.train`, which have no effect here: the loss is not evaluated.

    Raises:
      FsaError: An error in settings, data or checkpoints that the user can fix.
    """
    del unused
    if jax.process_count() > 1:
        raise SettingError(
            "t5x.train_seeds",
            expected="one process, with any number of devices",
            found=f"{jax.process_count()} processes",
            fix="start it without a coordinator, on each machine with its own seeds",
        )
    require_writable(model_dir)
    setup = functools.partial(
        TrainingSetup,
        model=model,
        partitioner=partitioner,
        use_hardware_rng=use_hardware_rng,
        get_dataset_fn=datasets.get_dataset,
        train_state_initializer_cls=TrainStateInitializer,
        verify_matching_vocabs_fn=datasets.verify_matching_vocabs,
    )
    runs = _Runs(setup, train_dataset_cfg, checkpoint_cfg.restore, trainer_cls, partitioner, model_dir)
    if measure:
        _measure(runs, seeds, measure)
        return
    todo = _groups(model_dir, seeds, together)
    if not todo:
        announce("all seeds have ended")
        return
    scorer = _Scorer(model, infer_eval_dataset_cfg, partitioner, model_dir, inference_evaluator_cls, score)
    for group in todo:
        for seed in group:
            summarize_config_fn(str(seed_directory(model_dir, seed)), None, 0)
        Group(runs, group, scorer, checkpoint_cfg).train(total_steps, eval_period)


def _groups(model_dir: str, seeds: Sequence[int], together: int) -> list[tuple[int, ...]]:
    """Returns the groups to train: those that have begun, as they were, then the other seeds that have not ended."""

    def has_ended(seed: int) -> bool:
        return (seed_directory(model_dir, seed) / RESULT).exists()

    for leftover in Path(model_dir).glob(f"{_ENDED}{_GROUP}*"):
        shutil.rmtree(leftover)
    begun = [
        tuple(map(int, directory.name.removeprefix(_GROUP).split("_")))
        for directory in sorted(Path(model_dir).glob(f"{_GROUP}*"))
    ]
    # A group with only some of the seeds goes on as a whole, because its state belongs to all of them.
    begun = [group for group in begun if set(group) & set(seeds)]
    inside = {seed for group in begun for seed in group}
    rest = [seed for seed in seeds if seed not in inside and not has_ended(seed)]
    return [*begun, *(tuple(rest[first : first + together]) for first in range(0, len(rest), together))]


class _Runs:
    """Creates what each seed begins with: its data, its state and its random keys."""

    def __init__(
        self,
        setup: Callable[..., TrainingSetup],
        config: DatasetConfig,
        restore: RestoreCheckpointConfig | None,
        trainer_cls: Callable[..., Trainer],
        partitioner: PjitPartitioner,
        model_dir: str,
    ) -> None:
        self._setup, self._config, self._restore, self._trainer_cls = setup, config, restore, trainer_cls
        self.partitioner, self.model_dir = partitioner, model_dir
        self._steps: dict[tuple[int, int], _Stacked] = {}

    def setups(self, seeds: Sequence[int]) -> list[TrainingSetup]:
        """Returns the data and keys of a group; its batches have as many rows as are enough for all its seeds."""
        setups = [self._of(seed, self._config) for seed in seeds]
        rows = max(setup.data.batch_size for setup in setups)
        config = dataclasses.replace(self._config, batch_size=rows)
        return [
            setup if setup.data.batch_size == rows else self._of(seed, config)
            for seed, setup in zip(seeds, setups, strict=True)
        ]

    def _of(self, seed: int, config: DatasetConfig) -> TrainingSetup:
        return self._setup(train_dataset_cfg=dataclasses.replace(config, seed=seed), random_seed=seed)

    def first_state(self, setup: TrainingSetup) -> TrainState:
        """Returns the state at step 0: of the checkpoint to start from, or random."""
        if self._restore is None or not self._restore.paths:
            return setup.initializer.from_scratch(setup.init_rng)
        path = restoring.resolve_paths(self._restore)[-1]
        return setup.initializer.from_path(path, self._restore, setup.init_rng)

    def stacked(self, setup: TrainingSetup, size: int) -> _Stacked:
        """Returns the compiled step for groups of ``size`` seeds."""
        key = (size, setup.data.batch_size)
        if key not in self._steps:
            self._steps[key] = _Stacked(self, setup, size)
        return self._steps[key]

    def trainer(self, setup: TrainingSetup) -> Trainer:
        """Returns the trainer whose step is compiled."""
        return setup.trainer(self._trainer_cls, [], self.model_dir)


class _Stacked:
    """The trainer's step for groups of one size: states, batches and keys have a leading axis of seeds.

    Args:
      runs: Creates the trainer.
      like: The data and shapes of any seed.
      size: Seeds of a group.
    """

    def __init__(self, runs: _Runs, like: TrainingSetup, size: int) -> None:
        whole = runs.partitioner
        devices = int(whole.mesh.shape["data"])
        spread = devices > 1 and size % devices == 0
        self.partitioner = _without_split_batches(whole) if spread else whole
        over_seeds = "data" if spread else None
        self.axes = jax.tree.map(
            lambda spec: PartitionSpec(over_seeds, *(axis if axis != "data" or not spread else None for axis in spec)),
            like.initializer.train_state_axes,
            is_leaf=lambda leaf: isinstance(leaf, PartitionSpec),
        )
        self.shapes: Any = jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct((size, *leaf.shape), leaf.dtype), like.initializer.shapes
        )
        data = PartitionSpec("data") if spread else PartitionSpec(None, "data")
        self._sharding = self.partitioner.shardings(data)
        step = self.partitioner.partition(
            jax.vmap(runs.trainer(like).train_function), (self.axes, data, None), (self.axes, None), donate_argnums=(0,)
        )
        batch = {name: jax.ShapeDtypeStruct((size, *spec.shape), spec.dtype) for name, spec in like.batch.items()}
        keys = jax.ShapeDtypeStruct((size, *like.trainer_rng.shape), like.trainer_rng.dtype)
        self._step = step.lower(self.shapes, batch, keys).compile()
        self.memory = StepMemory.of(self._step)
        if self.memory is not None:
            self.memory.require(device_memory_limit())

    def stack(self, states: Iterator[TrainState]) -> TrainState:
        """Returns the states of all seeds as one; at any time, one more is in memory."""
        hosts = [jax.device_get(state) for state in states]
        stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *hosts)
        return jax.device_put(stacked, self.partitioner.shardings(self.axes))

    def step(
        self, state: TrainState, batches: Sequence[Mapping[str, Any]], keys: jax.Array
    ) -> tuple[TrainState, Mapping[str, Any]]:
        """Returns the state and the metrics after one step of every seed."""
        batch = {
            name: jax.device_put(np.stack([each[name] for each in batches]), self._sharding) for name in batches[0]
        }
        return self._step(state, batch, keys)


class Group:
    """The training of one group of seeds.

    Args:
      runs: Creates data and states.
      seeds: The seeds of the group.
      scorer: Scores parameters.
      config: How checkpoints are written.
    """

    def __init__(self, runs: _Runs, seeds: Sequence[int], scorer: _Scorer, config: CheckpointConfig) -> None:
        self._runs, self._seeds, self._scorer = runs, tuple(seeds), scorer
        self._directory = Path(runs.model_dir) / f"{_GROUP}{'_'.join(map(str, seeds))}"
        save = config.save
        self._dtype = save.dtype if save is not None else "float32"
        self._manager = CheckpointManager(str(self._directory), save_dtype=None, keep=1)

    def train(self, total_steps: int, epoch_steps: int) -> None:
        """Trains to the last step, from the newest saved epoch."""
        announce(f"seeds {', '.join(map(str, self._seeds))} {'together' if len(self._seeds) > 1 else ''}".strip())
        setups = self._runs.setups(self._seeds)
        stacked = self._runs.stacked(setups[0], len(setups))
        keys = jnp.stack([setup.trainer_rng for setup in setups])
        state, step, results = self._begin(stacked, setups)
        while step < total_steps:
            began = time.monotonic()
            last = min((step // epoch_steps + 1) * epoch_steps, total_steps)
            losses = []
            while step < last:
                state, metrics = stacked.step(state, [next(setup.data) for setup in setups], keys)
                losses.append(metrics[LOSS])
                step += 1
            for result, own_losses in zip(results, _per_seed(losses, len(self._seeds)), strict=True):
                result.losses.extend(own_losses)
            params = jax.device_get(state.params)
            for index, result in enumerate(results):
                own = jax.tree.map(lambda leaf, index=index: leaf[index], params)
                result.scores.append(self._scorer.score(result.seed, own, step))
                if result.scores[-1] >= max(result.scores):
                    result.best_epoch = len(result.scores)
                    self._save_best(result.seed, own, step)
            seconds = time.monotonic() - began
            for result in results:
                result.seconds += seconds / len(self._seeds)
            self._save(state, step, results)
            self._say(step, total_steps, results, seconds)
        self._end(results)

    def _begin(self, stacked: _Stacked, setups: Sequence[TrainingSetup]) -> tuple[Any, int, list[SeedResult]]:
        results = [SeedResult(seed, list(self._seeds), rows=setups[0].data.batch_size) for seed in self._seeds]
        steps = checkpoint_files.checkpoint_steps(self._directory)
        if not steps:
            for seed in self._seeds:  # of a run that was killed before its first epoch was saved
                self._scorer.forget(seed)
            return stacked.stack(self._runs.first_state(setup) for setup in setups), 0, results
        path = manager.checkpoint_path(str(self._directory), steps[-1])
        announce(f"resuming {path} (step {steps[-1]})")
        expected = stacked.shapes.state_dict()
        plan = restoring.plan(str(path), expected, RestoreCheckpointConfig(path=str(path)), is_resuming=True)
        shardings = stacked.partitioner.shardings(stacked.axes.state_dict())
        state = stacked.shapes.restore_state(restoring.read(plan, expected, shardings, {}))
        known = json.loads((self._directory / f"results-{steps[-1]}.json").read_text())
        results = [SeedResult(**entry) for entry in known]
        for setup in setups:
            for _ in range(steps[-1]):
                next(setup.data)
        return state, steps[-1], results

    def _save(self, state: Any, step: int, results: Sequence[SeedResult]) -> None:
        self._directory.mkdir(parents=True, exist_ok=True)
        known = self._directory / f"results-{step}.json"
        _write_json(known, [dataclasses.asdict(result) for result in results])
        # The state is copied before the next step, and written while training continues.
        self._manager.save(state.state_dict(), step, wait=False)
        for older in self._directory.glob("results-*.json"):
            if older != known and int(older.stem.partition("-")[2]) not in self._steps():
                older.unlink()

    def _steps(self) -> list[int]:
        return checkpoint_files.checkpoint_steps(self._directory)

    def _save_best(self, seed: int, params: Any, step: int) -> None:
        state_dict = {"target": params, "state": {"step": np.int32(step)}}
        best = CheckpointManager(str(seed_directory(self._runs.model_dir, seed)), save_dtype=self._dtype, keep=1)
        best.save(state_dict, step)

    def _say(self, step: int, total: int, results: Sequence[SeedResult], seconds: float) -> None:
        progress = {"seeds": self._seeds, "step": step, "steps": total, "seconds": seconds}
        _write_json(Path(self._runs.model_dir) / PROGRESS, progress)
        scores = ", ".join(f"{result.scores[-1]:.2f}" for result in results)
        losses = ", ".join(f"{result.losses[-1]:.4g}" for result in results)
        announce(f"step {step}/{total}  loss {losses}  score {scores}  {seconds:.1f} s")

    def _end(self, results: Sequence[SeedResult]) -> None:
        self._manager.wait()
        for result in results:
            _write_json(seed_directory(self._runs.model_dir, result.seed) / RESULT, dataclasses.asdict(result))
        # Renamed first: a group whose directory is half deleted could neither go on nor end.
        shutil.rmtree(self._directory.rename(self._directory.with_name(f"{_ENDED}{self._directory.name}")))


class _Scorer:
    """Decodes and scores a task with the parameters of one seed.

    Args:
      model: Decodes.
      config: The evaluated dataset; one task.
      partitioner: Distributes arrays over the devices.
      model_dir: Directory of all seeds.
      evaluator_cls: ``seqio.Evaluator``.
      metric: Name of the metric that is the score.
    """

    def __init__(
        self,
        model: BaseModel,
        config: DatasetConfig,
        partitioner: PjitPartitioner,
        model_dir: str,
        evaluator_cls: Callable[..., Any],
        metric: str,
    ) -> None:
        # SeqIO's loggers write to one directory, but every seed has its own.
        unlogged = functools.partial(evaluator_cls, logger_cls=[])
        seqio_evaluator = evaluation.open_evaluator(config, model, model_dir, unlogged)
        shapes = evaluation.input_shapes(seqio_evaluator, config.batch_size)
        self._initializer = TrainStateInitializer(
            optimizer_def=None,
            init_fn=model.get_initial_variables,
            input_shapes={name: spec.shape for name, spec in shapes.items()},
            input_types={name: spec.dtype for name, spec in shapes.items()},
            partitioner=partitioner,
        )
        axes = self._initializer.train_state_axes
        self._shardings = partitioner.shardings(axes)
        self._evaluator = evaluation.InferenceEvaluator(
            lambda: seqio_evaluator, config.batch_size, model, partitioner, axes
        )
        self._model_dir, self._metric = model_dir, metric

    def score(self, seed: int, params: Any, step: int) -> float:
        """Returns the score, and appends all scores to the file of the seed's metrics."""
        state = self._initializer.shapes.replace_params(params).replace_step(np.int32(step))
        self._evaluator.start(jax.device_put(state, self._shardings), step)
        ((task, values),) = self._evaluator.finish().items()
        file = self._metrics_file(seed, task)
        file.parent.mkdir(parents=True, exist_ok=True)
        rows = [row for row in read_rows(file) if row["step"] < step]
        rows.append({"step": step, **{name: float(value) for name, value in values.items()}})
        with replacing(file) as partial:
            partial.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return float(values[self._metric])

    def forget(self, seed: int) -> None:
        """Deletes the scores and the best weights of a seed that begins anew."""
        directory = seed_directory(self._model_dir, seed)
        shutil.rmtree(directory / "inference_eval", ignore_errors=True)
        for step in checkpoint_files.checkpoint_steps(directory):
            shutil.rmtree(manager.checkpoint_path(str(directory), step), ignore_errors=True)

    def _metrics_file(self, seed: int, task: str) -> Path:
        return seed_directory(self._model_dir, seed) / "inference_eval" / f"{task}-metrics.jsonl"


def _measure(runs: _Runs, seeds: Sequence[int], sizes: Sequence[int], steps: int = 5) -> None:
    """Writes the seconds of a step and its memory for groups of each size to ``MODEL_DIR/measured.json``."""
    (setup,) = runs.setups(seeds[:1])
    batch = next(setup.data)
    found = []
    keys = setup.trainer_rng[None]
    for size in sizes:
        entry: dict[str, Any] = {"together": size}
        try:
            stacked = _Stacked(runs, setup, size)
        except SettingError as error:  # It does not fit into the memory of a device.
            if not found:
                raise
            announce(f"{size} together: {error.found}")
            continue
        if stacked.memory is not None:
            entry["bytes"] = stacked.memory.arguments + stacked.memory.temporary
        state = stacked.stack(runs.first_state(setup) for _ in range(size))
        together = jnp.repeat(keys, size, axis=0)
        state, metrics = stacked.step(state, [batch] * size, together)
        jax.block_until_ready(metrics)
        began = time.monotonic()
        for _ in range(steps):
            state, metrics = stacked.step(state, [batch] * size, together)
        jax.block_until_ready(metrics)
        entry["seconds"] = (time.monotonic() - began) / steps
        del state
        found.append(entry)
        announce(json.dumps(entry))
    _write_json(Path(runs.model_dir) / "measured.json", found)


def _per_seed(losses: Sequence[Any], seeds: int) -> list[list[float]]:
    """Returns for every seed its losses of the steps, fetched from the device at once."""
    fetched = jax.device_get(list(losses))
    return [
        [float(jax.tree.map(lambda leaf, seed=seed: leaf[seed], each).compute()) for each in fetched]
        for seed in range(seeds)
    ]


def _without_split_batches(partitioner: PjitPartitioner) -> PjitPartitioner:
    """Returns the partitioner with batches that are not split: the data axis is for the seeds."""
    found = copy.copy(partitioner)
    found.logical_axis_rules = tuple(
        (name, None if axes == "data" else axes) for name, axes in partitioner.logical_axis_rules
    )
    return found


def _write_json(file: Path, content: Any) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    with replacing(file) as partial:
        partial.write_text(json.dumps(content))


USAGE = """
Trains one recipe with several random seeds, together on the same devices, and keeps the best weights of each.

  python -m t5x.train_seeds --gin_file=gin/finetune_base.gin --gin.MODEL_DIR="'runs/rest14'" --seeds=42,52 --together=2

The same command again continues from the newest epoch. Results: MODEL_DIR/seed-42/result.json and a checkpoint.
"""


def main() -> None:
    """The command ``t5x_train_seeds``."""
    command_line.define_common_flags()
    flags.DEFINE_list("seeds", ["42"], "Random seeds.")
    flags.DEFINE_integer("together", 1, "Number of seeds that are trained together.")
    flags.DEFINE_list("measure_together", [], "Measure the speed of groups of these sizes, and stop.")

    def arguments() -> dict[str, Any]:
        sizes = [int(size) for size in flags.FLAGS.measure_together]
        return {
            "seeds": [int(seed) for seed in flags.FLAGS.seeds],
            "together": flags.FLAGS.together,
            "measure": sizes,
        }

    # SIGTERM ends the process at once: an epoch is short, and the state after the last one is saved.
    jax.config.update("jax_enable_preemption_service", False)
    command_line.run(USAGE, lambda: [train], arguments)


if __name__ == "__main__":
    main()
