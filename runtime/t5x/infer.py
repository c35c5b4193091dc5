"""``python -m t5x.infer``: predictions or scores of a task's examples as JSONL files.

The examples are processed in chunks of ``checkpoint_period`` batches, each written to a file. An interrupted run
continues with the first chunk that has no file. At the end the files are joined, and a file ``.COMPLETED`` is written
that describes the checkpoint, the settings and the examples.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import jax
import numpy as np
from absl import flags
from etils import epath

from fsa_base import checkpoint_files
from fsa_base.disk import replacing
from fsa_base.errors import DataError, SettingError, require_choice
from t5x import gin_utils
from t5x.checkpointing import restoring
from t5x.checkpointing.config import RestoreCheckpointConfig
from t5x.checkpointing.manager import absolute
from t5x.configuration import command_line
from t5x.data import datasets
from t5x.data.datasets import DatasetConfig
from t5x.distributed import processes
from t5x.hooks import run_directory
from t5x.inference import evaluation
from t5x.inference.evaluation import InferenceFunction
from t5x.inference.files import (
    chunk_path,
    merge_chunks_to_file,
    require_same_settings,
    settings_of_examples,
    was_of_same_settings,
    write_inferences_to_file,
    write_settings,
)
from t5x.models.base import BaseModel
from t5x.partitioning import PjitPartitioner
from t5x.progress import Progress
from t5x.train_state import TrainState, TrainStateInitializer

if TYPE_CHECKING:
    import seqio

MODES = {"predict": "predict_batch", "score": "score_batch", "predict_with_aux": "predict_batch_with_aux"}


def infer(
    *,
    mode: Literal["predict", "score", "predict_with_aux"],
    model: BaseModel,
    dataset_cfg: DatasetConfig,
    restore_checkpoint_cfg: RestoreCheckpointConfig,
    partitioner: PjitPartitioner,
    output_dir: str,
    checkpoint_period: int,
    shard_id: int = 0,
    num_shards: int = 1,
    merge_chunked_results: bool = True,
    write_fn: Callable[..., None] = write_inferences_to_file,
    checkpoint_ds_iter: bool = True,
    train_state_initializer_cls: Callable[..., TrainStateInitializer] = TrainStateInitializer,
    fallback_init_rng: int | None = None,
    merge_fn: Callable[..., None] = merge_chunks_to_file,
    summarize_config_fn: Callable[[str, Any, int], None] = gin_utils.summarize_gin_config,
    verify_matching_vocabs_fn: Callable[..., None] | None = datasets.verify_matching_vocabs,
    output_vocab_feature_name: str = "targets",
    file_extension: str = "jsonl",
    keep_aux_as_numpy: bool = False,
    use_orbax: bool = True,
) -> None:
    """Writes ``<task>-<mode>.<extension>-<shard>-of-<shards>`` into ``output_dir`` for every task.

    Args:
      mode: ``predict``, ``score`` or ``predict_with_aux``.
      model: Network and vocabularies (t5x/models).
      dataset_cfg: Dataset to process.
      restore_checkpoint_cfg: One checkpoint, in mode ``specific``.
      partitioner: Distributes arrays over the devices.
      output_dir: Directory for the results.
      checkpoint_period: Number of batches in a chunk.
      shard_id: Index of the part of the examples that this job processes.
      num_shards: Number of parts; each is processed by a separate job.
      merge_chunked_results: Whether to join the chunks.
      write_fn: Writes a chunk.
      checkpoint_ds_iter: Ignored. The number of the chunk determines the position in the data.
      train_state_initializer_cls: Creates states.
      fallback_init_rng: Random seed for entries that are missing in the checkpoint. If None, they are an error.
      merge_fn: Joins the chunks to a file with the given name. The inference is complete only if that file exists.
      summarize_config_fn: Writes the configuration.
      verify_matching_vocabs_fn: Checks vocabularies. If None, they are not checked.
      output_vocab_feature_name: Feature whose vocabulary decodes predictions.
      file_extension: Extension of the result files.
      keep_aux_as_numpy: Whether ``write_fn`` gets auxiliary values as arrays instead of lists.
      use_orbax: Ignored. The format of a checkpoint is recognised from its files.

    Raises:
      FsaError: An error in settings, data or checkpoints that the user can fix.
    """
    del checkpoint_ds_iter, use_orbax
    _check(mode, shard_id, num_shards, restore_checkpoint_cfg)
    run_directory.require_writable(output_dir)
    provider = datasets.find_provider(dataset_cfg)
    if verify_matching_vocabs_fn is not None:
        verify_matching_vocabs_fn(dataset_cfg, model)
    datasets.check(dataset_cfg)
    import seqio

    path = restoring.require_paths(restore_checkpoint_cfg)[0]
    converter = model.FEATURE_CONVERTER_CLS(pack=False)
    require_choice("infer.output_vocab_feature_name", output_vocab_feature_name, provider.output_features)
    vocabulary = provider.output_features[output_vocab_feature_name].vocabulary
    tasks = seqio.get_subtasks(provider)
    spec = converter(
        _examples(tasks[0], dataset_cfg, shard_id, num_shards), dataset_cfg.task_feature_lengths
    ).element_spec
    shapes = evaluation.batch_shapes(spec, dataset_cfg.batch_size)
    initializer = train_state_initializer_cls(
        optimizer_def=None,
        init_fn=model.get_initial_variables,
        input_shapes={feature: shape.shape for feature, shape in shapes.items()},
        input_types={feature: shape.dtype for feature, shape in shapes.items()},
        partitioner=partitioner,
    )
    init_rng = None if fallback_init_rng is None else jax.random.PRNGKey(fallback_init_rng)
    state = initializer.from_path(path, restore_checkpoint_cfg, init_rng)
    step = int(state.step)
    function = evaluation.make_function(
        model, MODES[mode], dataset_cfg.batch_size, initializer.train_state_axes, partitioner
    )
    summarize_config_fn(output_dir, None, step)
    write = functools.partial(write_fn, mode=mode, vocabulary=vocabulary)
    chunk_size = checkpoint_period * dataset_cfg.batch_size
    settings = {
        "checkpoint": str(absolute(path)),
        "its content": checkpoint_files.state_digest(epath.Path(path)),
        "examples of a chunk": chunk_size,
        "configuration": hashlib.sha256(gin_utils.get_gin_config_str().encode()).hexdigest(),
    }
    for task in tasks:
        name = f"{task.name}-{mode}.{file_extension}-{shard_id:05}-of-{num_shards:05}"
        # One lock per task and part, since other jobs process other parts in the same directory.
        with run_directory.claimed(output_dir, f".{name}.lock", "INFER_OUTPUT_DIR", f"inferring {name}"):
            result, completed = epath.Path(output_dir) / name, epath.Path(output_dir) / f"{name}.COMPLETED"
            chunks = epath.Path(output_dir) / f"{name}.chunks"
            examples = _examples(task, dataset_cfg, shard_id, num_shards)
            of_examples = settings_of_examples(examples)
            total = of_examples["examples"]
            wanted = settings | of_examples
            done = _is_done(completed, result, chunks, -(-total // chunk_size), merge_chunked_results)
            # Only the answer of process 0 counts, which holds the lock.
            if processes.broadcast(int(done)):
                if jax.process_index() == 0:
                    doubt = (
                        ""
                        if was_of_same_settings(completed, wanted)
                        else "; its settings are not recorded: not verified"
                    )
                    print(f"{result} is complete already, see {completed.name}{doubt}", flush=True)
                continue
            features = converter(examples, dataset_cfg.task_feature_lengths)
            known = wanted
            if jax.process_index() == 0:
                known = require_same_settings(chunks, wanted)
                if known != wanted:
                    print(
                        f"continuing with the chunks in {chunks}; their examples are not recorded: not verified",
                        flush=True,
                    )
                # The result that it describes is gone, and it must not be taken for a description of the new result.
                completed.unlink(missing_ok=True)
            _infer_task(function, state, examples, features, total, chunks, chunk_size, write, keep_aux_as_numpy)
            processes.barrier(name)
            if jax.process_index() == 0:
                if merge_chunked_results:
                    merge_fn(output_dir, name, str(chunks), step)
                write_settings(completed, known)
                print(f"{total} examples: {result}", flush=True)


def _is_done(completed: epath.Path, result: epath.Path, directory: epath.Path, chunks: int, merged: bool) -> bool:
    """Returns whether an earlier run is complete and its result (or, without merging, all chunks) still exist."""
    if not completed.exists():
        return False
    return result.exists() or (not merged and all(chunk_path(directory, number).exists() for number in range(chunks)))


def _check(mode: str, shard_id: int, num_shards: int, restore: RestoreCheckpointConfig) -> None:
    require_choice("infer.mode", mode, MODES)
    if not 0 <= shard_id < num_shards:
        raise SettingError(
            "infer.shard_id",
            expected=f"0 to {num_shards - 1}, below infer.num_shards",
            found=str(shard_id),
            fix="--shard_id=0",
        )
    if restore.mode != "specific":
        raise SettingError(
            "RestoreCheckpointConfig.mode",
            expected="'specific', one checkpoint",
            found=repr(restore.mode),
            fix="--gin.utils.RestoreCheckpointConfig.mode=\"'specific'\"",
        )


def _examples(task: seqio.Task, config: DatasetConfig, shard_id: int, num_shards: int) -> Any:
    """Returns the examples of this job's part as the task provides them, always in the same order."""
    import seqio

    return task.get_dataset(
        sequence_length=config.task_feature_lengths,
        split=config.split,
        use_cached=config.use_cached,
        shuffle=config.shuffle,
        seed=config.seed,
        num_epochs=1,
        shard_info=seqio.ShardInfo(shard_id, num_shards) if num_shards > 1 else None,
        trim_output_features=config.trim_output_features,
    )


def _infer_task(
    function: InferenceFunction,
    state: TrainState,
    examples: Any,
    features: Any,
    total: int,
    directory: epath.Path,
    chunk_size: int,
    write: Callable[..., None],
    keep_aux_as_numpy: bool,
) -> None:
    """Processes every chunk of the ``total`` examples that has no file yet."""
    chunks = -(-total // chunk_size)
    progress = Progress(0, chunks, enabled=jax.process_index() == 0, unit="chunk")
    processes.barrier(f"{directory.name} begins")
    for number in range(chunks):
        file = chunk_path(directory, number)
        # Only the answer of process 0 counts: other processes may see new files later.
        if processes.broadcast(int(file.exists())):
            continue
        begin, size = number * chunk_size, min(chunk_size, total - number * chunk_size)
        part = features.skip(begin).take(size).enumerate()
        rows = function(part, state, jax.random.fold_in(jax.random.PRNGKey(0), number))
        if jax.process_index() == 0:
            with replacing(file, durable=True) as partial:
                write(str(partial), _split(rows, keep_aux_as_numpy), examples.skip(begin).take(size))
        if progress.due(number + 1):
            progress.show(number + 1, {}, 0)


def _split(rows: Sequence[tuple[int, Any]], keep_as_numpy: bool) -> tuple[list[Any], dict[str, Any]]:
    """Splits (index, value or (value, auxiliary)) into values and auxiliary values by name."""
    values = [value[0] if isinstance(value, tuple) else value for _, value in rows]
    if not rows or not isinstance(rows[0][1], tuple):
        return [np.asarray(value).tolist() for value in values], {}
    convert = np.asarray if keep_as_numpy else lambda leaf: np.asarray(leaf).tolist()
    auxiliary = jax.tree.map(lambda *leaves: [convert(leaf) for leaf in leaves], *[value[1] for _, value in rows])
    return [np.asarray(value).tolist() for value in values], auxiliary


def create_task_from_tfexample_file(
    paths: Sequence[str],
    file_type: str,
    inputs_key: str,
    targets_key: str | None,
    features: Mapping[str, Any],
    task_id: str | None = None,
) -> str:
    """Registers a SeqIO task, split ``infer``, over files of serialized ``tf.train.Example``; returns its name.

    Args:
      paths: Files or patterns.
      file_type: ``tfrecord``.
      inputs_key: Feature of the examples that contains the input as UTF-8 text.
      targets_key: The same for the targets, which are needed only for scoring. If None, there are no targets.
      features: ``seqio.Feature`` of ``inputs`` and, with ``targets_key``, of ``targets``.
      task_id: Name of the task. If None, it is derived from the other arguments.

    Raises:
      DataError: No file matches a pattern.
      SettingError: The file type is not supported.
    """
    tf = datasets.tensorflow()
    import seqio

    require_choice("create_task_from_tfexample_file.file_type", file_type, ("tfrecord",))
    for pattern in paths:
        if not tf.io.gfile.glob(pattern):
            raise DataError(pattern, expected="at least one file", found="none", fix="correct TF_EXAMPLE_FILE_PATHS")
    keys = {"inputs": inputs_key} | ({"targets": targets_key} if targets_key else {})
    text = {key: tf.io.FixedLenFeature((), tf.string) for key in keys.values()}

    def rename(dataset: Any) -> Any:
        return dataset.map(
            lambda example: (
                {name: example[key] for name, key in keys.items()}
                | ({} if targets_key else {"targets": tf.constant("")})
            ),
            num_parallel_calls=tf.data.AUTOTUNE,
        )

    described = repr((sorted(paths), file_type, inputs_key, targets_key))
    name = task_id or f"infer_{hashlib.sha256(described.encode()).hexdigest()[:16]}"
    if name not in seqio.TaskRegistry.names():
        seqio.TaskRegistry.add(
            name,
            source=seqio.TFExampleDataSource({"infer": paths}, feature_description=text),  # type: ignore[arg-type]
            preprocessors=[rename, seqio.preprocessors.tokenize, seqio.preprocessors.append_eos],
            output_features=dict(features),
        )
    return name


def define_flags() -> None:
    """Defines the flag of inference."""
    flags.DEFINE_integer("shard_id", None, "Overrides infer.shard_id.")


def flag_arguments() -> dict[str, Any]:
    """Returns the arguments of :func:`infer` that are given as flags."""
    return {} if flags.FLAGS.shard_id is None else {"shard_id": flags.FLAGS.shard_id}


USAGE = """
Writes predictions or scores of a task's examples as JSON lines.

  python -m t5x.infer --gin_file=gin/models/t5_1_1_base.gin --gin_file=t5x/configs/runs/infer.gin \\
    --gin.CHECKPOINT_PATH="'runs/base/checkpoint_1000'" --gin.INFER_OUTPUT_DIR="'runs/base/predictions'" ...

The same command again continues with the missing parts.
"""


def main() -> None:
    """The command ``t5x_infer``."""
    command_line.define_common_flags()
    define_flags()
    command_line.run(USAGE, lambda: [infer, create_task_from_tfexample_file], flag_arguments)


if __name__ == "__main__":
    main()
