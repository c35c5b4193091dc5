"""Batches of SeqIO tasks and mixtures for this process.

SeqIO is imported only when the first dataset is built, since it imports TensorFlow, which takes seconds.
"""

from __future__ import annotations

import dataclasses
import difflib
import functools
import numbers
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import jax

from fsa_base import extras
from fsa_base.errors import DataError, SettingError, VocabularyError
from t5x import installed
from t5x.data.exact_batches import ExactBatches, require_valid
from t5x.distributed import processes

if TYPE_CHECKING:
    import seqio

    from t5x.models.base import BaseModel


@dataclasses.dataclass
class DatasetConfig:
    """Which examples to use, and how to make batches of them.

    Attributes:
      mixture_or_task_name: Name of a registered SeqIO task or mixture, or the task or mixture itself.
      task_feature_lengths: Number of tokens to which each feature is cut or packed. None where SeqIO may determine it.
      split: Split of the task.
      batch_size: Rows of a batch, after packing, of all processes together.
      shuffle: Whether to shuffle.
      seed: Random seed for shuffling and preprocessors. If None, taken from the clock; the same on every process.
      use_cached: Read the cache that ``seqio_cache_tasks`` wrote.
      pack: Pack several examples into a row.
      use_custom_packing_ops: Passed to the feature converter.
      module: Module that registers the task; it is imported first.
      use_memory_cache: Keep evaluation data in memory.
      trim_output_features: Cut features to ``task_feature_lengths``.
      runtime_preprocessors: Functions ``fn(dataset) -> dataset``, applied in order to the model's features.
      num_prefetch_threads: Size of a separate thread pool for this dataset. If None, TensorFlow's pool is used.
      num_workers: Ignored; tf.data has no worker processes.
      examples_per_batch: Exactly so many examples are in every batch, in up to ``batch_size`` packed rows
        (t5x/data/exact_batches.py). If both are equal, training chooses the number of rows. If None, as many as fit.
    """

    mixture_or_task_name: Any
    task_feature_lengths: Mapping[str, int] | None
    split: str
    batch_size: int
    shuffle: bool
    seed: int | None
    use_cached: bool = False
    pack: bool = False
    use_custom_packing_ops: bool = False
    module: str | None = None
    use_memory_cache: bool = True
    trim_output_features: bool = True
    runtime_preprocessors: Sequence[Callable[[Any], Any]] | None = None
    num_prefetch_threads: int | None = None
    num_workers: int = 0
    examples_per_batch: int | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.batch_size, numbers.Integral) or self.batch_size < 1:
            raise SettingError(
                "BATCH_SIZE", expected="a positive integer", found=repr(self.batch_size), fix="--gin.BATCH_SIZE=128"
            )
        if self.examples_per_batch is not None:
            require_valid(self.examples_per_batch, self.batch_size, self.pack)
        for feature, length in (self.task_feature_lengths or {}).items():
            if length is not None and length < 1:
                raise SettingError(
                    "TASK_FEATURE_LENGTHS",
                    expected=f"a positive number of tokens for {feature}",
                    found=repr(length),
                    fix="--gin.TASK_FEATURE_LENGTHS=\"{'inputs': 128, 'targets': 100}\"",
                )

    @property
    def name(self) -> str:
        """Name of the task or mixture."""
        given = self.mixture_or_task_name
        return given if isinstance(given, str) else given.name


class SeqioConverter:
    """A class attribute that is a class of SeqIO; SeqIO is imported only when the attribute is read."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        import seqio

        return getattr(seqio, self._name)


@functools.cache
def tensorflow() -> Any:
    """Imports TensorFlow and hides the accelerators from it, since JAX uses them."""
    import tensorflow as tf

    for kind in ("GPU", "TPU"):
        tf.config.set_visible_devices([], kind)
    return tf


def find_provider(config: DatasetConfig) -> Any:
    """Returns the SeqIO task or mixture of ``config``.

    Raises:
      SettingError: The task or module does not exist.
    """
    tensorflow()
    import seqio

    if config.module:
        try:
            imported = installed.import_task_module(config.module)
        except ModuleNotFoundError as error:
            if for_user := extras.error_of(error):
                raise for_user from error
            raise SettingError(
                "MIXTURE_OR_TASK_MODULE",
                expected="a module that registers SeqIO tasks",
                found=f"{config.module!r}: {error}",
                fix="start from the directory that holds it, or set PYTHONPATH to that directory",
            ) from error
        if imported and jax.process_index() == 0:
            print(imported, file=sys.stderr, flush=True)
    if not isinstance(config.mixture_or_task_name, str):
        return config.mixture_or_task_name
    name = config.mixture_or_task_name
    known = sorted({*seqio.TaskRegistry.names(), *seqio.MixtureRegistry.names()})
    if name not in known:
        close = difflib.get_close_matches(name, known, 3) or known[:5]
        raise SettingError(
            "MIXTURE_OR_TASK_NAME",
            expected="a registered SeqIO task or mixture" + (f", such as {', '.join(close)}" if close else ""),
            found=repr(name),
            fix="correct the name, or set MIXTURE_OR_TASK_MODULE to the module that registers it "
            "(or import that module in a gin file)",
        )
    return seqio.get_mixture_or_task(name)


def check(config: DatasetConfig) -> None:
    """Checks that the data of ``config`` exists, by reading one example of every task.

    If filters removed all examples, an endlessly repeated dataset would block forever.

    Raises:
      DataError: A split or cache is missing, or has no example.
      SettingError: A length is missing for a feature of the task.
    """
    import seqio

    provider = find_provider(config)
    for task in seqio.get_subtasks(provider):
        if config.split not in task.splits:
            raise DataError(
                f"task {task.name}",
                expected=f"a split {config.split!r}",
                found=f"the splits {', '.join(map(repr, task.splits)) or 'none'}",
                fix="bind another split, for example train/utils.DatasetConfig.split = 'train'",
            )
        if config.use_cached and not task.cache_dir:
            raise DataError(
                f"task {task.name}",
                expected="a cache written by seqio_cache_tasks",
                found="none in the cache directories",
                fix="--gin.USE_CACHED_TASKS=False, or seqio_cache_tasks --tasks="
                f"{task.name} --output_cache_dir=DIRECTORY and --seqio_additional_cache_dirs=DIRECTORY",
            )
        lengths = config.task_feature_lengths
        missing = [] if lengths is None else [name for name in task.output_features if name not in lengths]
        if missing:
            raise SettingError(
                "TASK_FEATURE_LENGTHS",
                expected=f"a length for every feature of {task.name}: {', '.join(task.output_features)}",
                found=f"{dict(lengths or {})}",
                fix=f"add {missing[0]!r} to TASK_FEATURE_LENGTHS",
            )
        if not _has_example(task, config):
            raise DataError(
                f"task {task.name}, split {config.split!r}",
                expected="at least one example",
                found="none after preprocessing",
                fix="check the task's data directory and its filters: python -c \"import seqio, tasks; "
                f"print(next(iter(seqio.get_mixture_or_task('{task.name}').get_dataset(None, '{config.split}'))))\"",
            )


def _has_example(task: seqio.Task, config: DatasetConfig) -> bool:
    dataset = task.get_dataset(
        sequence_length=config.task_feature_lengths,
        split=config.split,
        use_cached=config.use_cached,
        shuffle=False,
        seed=config.seed or 0,
        num_epochs=1,
        trim_output_features=config.trim_output_features,
        try_in_mem_cache=False,  # TensorFlow warns of a cache that is not read to its end
    )
    return any(True for _ in dataset.take(1))


def wall_clock_seed() -> int:
    """Returns a seed from the clock of process 0; the same on every process."""
    return processes.broadcast(int(time.time()))


def exact_batches_of(cfg: DatasetConfig, num_shards: int) -> ExactBatches | None:
    """Returns the packed batches with an exact number of examples; None if ``cfg`` has others."""
    if cfg.examples_per_batch is None or not cfg.pack:
        return None
    return ExactBatches(cfg.examples_per_batch, cfg.batch_size, num_shards)


def get_dataset(
    cfg: DatasetConfig,
    shard_id: int,
    num_shards: int,
    feature_converter_cls: Callable[..., Any],
    num_epochs: int | None = None,
    continue_from_last_checkpoint: bool = False,
) -> Any:
    """Returns the part of the batches of ``cfg`` that this process loads.

    Examples are divided among processes before packing, so a row never contains examples of two processes.

    Args:
      cfg: The dataset.
      shard_id: Index of this process's part, below ``num_shards``.
      num_shards: Number of parts.
      feature_converter_cls: SeqIO feature converter of the model.
      num_epochs: Number of repetitions. If None, the dataset is endless.
      continue_from_last_checkpoint: Ignored; see t5x/data/position.py.

    Returns:
      A ``tf.data.Dataset`` of dicts of int32 arrays (batch_size / num_shards, length).

    Raises:
      DataError: The data does not exist.
      SettingError: The task does not exist, or a batch cannot be divided evenly.
    """
    del continue_from_last_checkpoint
    tf = tensorflow()
    import seqio

    provider = find_provider(cfg)
    if cfg.batch_size % num_shards:
        raise SettingError(
            "BATCH_SIZE",
            expected=f"a multiple of {num_shards}, the number of processes that load data",
            found=str(cfg.batch_size),
            fix=f"--gin.BATCH_SIZE={-(-cfg.batch_size // num_shards) * num_shards}",
        )
    make = functools.partial(feature_converter_cls, pack=cfg.pack, use_custom_packing_ops=cfg.use_custom_packing_ops)
    exact = exact_batches_of(cfg, num_shards)
    converter = make() if exact is None else exact.converter(make)
    dataset = seqio.get_dataset(
        mixture_or_task_name=provider,
        task_feature_lengths=cfg.task_feature_lengths,  # type: ignore[arg-type]
        dataset_split=cfg.split,
        shuffle=cfg.shuffle,
        num_epochs=num_epochs,
        feature_converter=converter,
        shard_info=seqio.ShardInfo(index=shard_id, num_shards=num_shards) if num_shards > 1 else None,
        use_cached=cfg.use_cached,
        seed=wall_clock_seed() if cfg.seed is None else cfg.seed,
        trim_output_features=cfg.trim_output_features,
    )
    for preprocess in cfg.runtime_preprocessors or ():
        dataset = preprocess(dataset)
    dataset = dataset.batch(cfg.batch_size // num_shards, drop_remainder=True)
    if cfg.num_prefetch_threads:
        options = tf.data.Options()
        options.threading.private_threadpool_size = cfg.num_prefetch_threads
        dataset = dataset.with_options(options)
    return dataset


def get_training_eval_datasets(
    cfg: DatasetConfig,
    shard_id: int,
    num_shards: int,
    eval_steps: int,
    feature_converter_cls: Callable[..., Any],
    deterministic: bool = False,
    model_dir: str | None = None,
    start_step: int = 0,
) -> dict[str, Any]:
    """Returns exactly ``eval_steps`` batches of the mixture, and of each of its tasks that has the split, by name.

    The batches are kept in memory, so that every evaluation of a run uses the same ones.

    Raises:
      DataError: No task has the split.
    """
    del deterministic, model_dir, start_step
    datasets = {}
    for name, found in _evaluated_providers(cfg).items():
        config = dataclasses.replace(cfg, mixture_or_task_name=found, seed=cfg.seed)
        check(config)
        batches = get_dataset(config, shard_id, num_shards, feature_converter_cls, num_epochs=None).take(eval_steps)
        datasets[name] = batches.cache() if cfg.use_memory_cache else batches
    return datasets


def _evaluated_providers(cfg: DatasetConfig) -> dict[str, Any]:
    tensorflow()
    import seqio

    provider = find_provider(cfg)
    tasks = seqio.get_subtasks(provider)
    providers = {task.name: task for task in tasks if cfg.split in task.splits}
    if not providers:
        raise DataError(
            f"training evaluation of {provider.name}",
            expected=f"a task with a split {cfg.split!r}",
            found=f"the tasks {', '.join(task.name for task in tasks)} without one",
            fix="bind train/train_eval_dataset_cfg another split, or None",
        )
    if provider.name not in providers and len(providers) == len(tasks):
        providers[provider.name] = provider
    return providers


def get_whole_split_datasets(
    cfg: DatasetConfig,
    shard_id: int,
    num_shards: int,
    eval_steps: int | None,
    feature_converter_cls: Callable[..., Any],
) -> dict[str, Any]:
    """Returns every example of the mixture, and of each of its tasks that has the split, once, by name.

    Every process has the same number of batches; missing rows are zeros, which have no weight.

    Args:
      cfg: The dataset.
      shard_id: Index of this process's part, below ``num_shards``.
      num_shards: Number of parts.
      eval_steps: Ignored; :func:`get_training_eval_datasets` needs it.
      feature_converter_cls: SeqIO feature converter of the model.

    Raises:
      DataError: No task has the split, or a task has no example.
    """
    del eval_steps
    tf = tensorflow()
    import seqio

    whole, by_task = {}, {}
    for name, found in _evaluated_providers(cfg).items():
        if isinstance(
            found, seqio.Mixture
        ):  # The mixture comes after its tasks. Its own examples would be drawn by mixing rates.
            rows = functools.reduce(lambda first, second: first.concatenate(second), by_task.values())
        else:
            config = dataclasses.replace(cfg, mixture_or_task_name=found)
            check(config)
            single = dataclasses.replace(config, batch_size=num_shards, examples_per_batch=None)
            rows = get_dataset(single, shard_id, num_shards, feature_converter_cls, num_epochs=1).unbatch()
            by_task[name] = rows
        size = cfg.batch_size // num_shards
        batches = processes.maximum(-(-sum(1 for _ in rows) // size))
        filling = {feature: tf.zeros(spec.shape, spec.dtype) for feature, spec in rows.element_spec.items()}
        filled = rows.concatenate(tf.data.Dataset.from_tensors(filling).repeat())
        whole[name] = filled.batch(size, drop_remainder=True).take(batches)
        if cfg.use_memory_cache:
            whole[name] = whole[name].cache()
    return whole


def get_vocabulary(cfg: DatasetConfig) -> tuple[Any, Any]:
    """Returns the vocabularies of inputs and targets of the task; without inputs, that of the targets twice."""
    features = find_provider(cfg).output_features
    output = features["targets"].vocabulary
    return (features["inputs"].vocabulary if "inputs" in features else output), output


def verify_matching_vocabs(cfg: DatasetConfig, model: BaseModel) -> None:
    """Checks that task and model use the same vocabularies.

    Raises:
      VocabularyError: They do not.
    """
    for side, task_side, model_side in zip(
        ("inputs", "targets"), get_vocabulary(cfg), (model.input_vocabulary, model.output_vocabulary), strict=True
    ):
        if task_side != model_side:
            raise VocabularyError(
                f"task {cfg.name}, {side}",
                expected=f"the model's vocabulary, {model_side}",
                found=str(task_side),
                fix="bind VOCABULARY to the task's vocabulary, or register the task with the model's",
            )


def feature_shapes(dataset: Any, batch_size: int) -> dict[str, Any]:
    """Returns shape and dtype of every feature of a whole batch, as ``jax.ShapeDtypeStruct``."""
    return {
        name: jax.ShapeDtypeStruct((batch_size, *spec.shape[1:]), spec.dtype.as_numpy_dtype)
        for name, spec in dataset.element_spec.items()
    }
