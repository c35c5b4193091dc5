"""Checkpoints: written whole or not at all, kept by number or score, read in whatever dtype and under whatever name."""

from __future__ import annotations

import json
import resource
import shutil
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest
import tensorstore
import tiny_run
from etils import epath
from flax import serialization
from flax.traverse_util import flatten_dict, unflatten_dict

from fsa_base.errors import CheckpointError, SettingError
from fsa_base.runs import BestBy, metric_rows, read_metrics, recorded_best_by
from t5x import checkpoints, partitioning, utils
from t5x.hooks import metric_log
from t5x.hooks.metric_log import drop_rows_after, require_evaluated

KERNEL = np.random.default_rng(0).normal(size=(64, 64)).astype(np.float32)
STATE = {"target": {"kernel": KERNEL}, "state": {"step": jnp.int32(0), "param_states": {}}}


def _with_metrics(directory: Path, values: dict[int, float]) -> None:
    file = directory / "inference_eval" / "task-metrics.jsonl"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(json.dumps({"step": step, "f1": value}) + "\n" for step, value in values.items()))


def _manager(directory: Path, **settings) -> checkpoints.CheckpointManager:
    return utils.SaveCheckpointConfig(**settings).make_manager(str(directory))


def _save(manager: checkpoints.CheckpointManager, *steps: int) -> None:
    for step in steps:
        manager.save({**STATE, "state": {"step": jnp.int32(step)}}, step)


def _stored(path: Path) -> dict[str, np.ndarray]:
    """What the contract's reader finds: every leaf as a NumPy array."""
    with ocp.PyTreeCheckpointer() as reader:
        metadata = reader.metadata(epath.Path(path) / "state")
        tree = getattr(metadata, "item_metadata", metadata)
        tree = getattr(tree, "tree", tree)
        arguments = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), tree)
        return dict(flatten_dict(reader.restore(epath.Path(path) / "state", restore_args=arguments), sep="/"))  # type: ignore[arg-type]


def test_the_newest_are_kept(tmp_path):
    manager = _manager(tmp_path, keep=2)
    _save(manager, 0, 2, 4, 6)
    assert checkpoints.checkpoint_steps(tmp_path) == [4, 6]


def test_the_best_and_the_newest_are_kept_also_after_a_restart(tmp_path):
    best = {"checkpoint_manager_cls": _best("inference_eval/task/f1"), "keep": 1}
    _with_metrics(tmp_path, {2: 0.5, 4: 0.9, 6: 0.7})
    _save(_manager(tmp_path, **best), 2, 4, 6)
    assert checkpoints.checkpoint_steps(tmp_path) == [4, 6]
    again = _manager(tmp_path, **best)
    _with_metrics(tmp_path, {2: 0.5, 4: 0.9, 6: 0.7, 8: 0.8})
    _save(again, 8)
    assert checkpoints.checkpoint_steps(tmp_path) == [4, 8]
    assert again.best_step() == 4
    _with_metrics(tmp_path, {4: 0.9, 8: 0.95})
    again.prune()
    assert checkpoints.checkpoint_steps(tmp_path) == [8]


def test_a_checkpoint_whose_score_is_still_being_computed_is_not_deleted(tmp_path):
    """That a training says which one that is: test_infer.py."""
    best = _best("inference_eval/task/f1", keep_checkpoints_without_metrics=False)
    manager = _manager(tmp_path, keep=1, checkpoint_manager_cls=best)
    manager.being_scored = lambda: {4}
    _with_metrics(tmp_path, {2: 0.5})
    _save(manager, 2, 4, 6)
    assert checkpoints.checkpoint_steps(tmp_path) == [2, 4, 6]
    manager.being_scored = set
    _with_metrics(tmp_path, {2: 0.5, 4: 0.9})
    manager.prune()
    assert checkpoints.checkpoint_steps(tmp_path) == [4, 6]


def test_a_run_that_is_resumed_without_a_metric_no_longer_keeps_the_best_by_one(tmp_path):
    _with_metrics(tmp_path, {2: 0.5})
    _save(_manager(tmp_path, checkpoint_manager_cls=_best("inference_eval/task/f1")), 2)
    assert recorded_best_by(tmp_path) == BestBy("inference_eval/task/f1")
    _save(_manager(tmp_path), 4)
    assert recorded_best_by(tmp_path) is None


def _best(metric: str, **settings):
    def make(**arguments):
        return checkpoints.OrbaxCheckpointManagerInterface(metric_name_to_monitor=metric, **{**arguments, **settings})

    return make


def test_an_unknown_metric_is_an_error_that_lists_the_known_ones(tmp_path):
    _with_metrics(tmp_path, {2: 0.5})
    with pytest.raises(SettingError, match="expected a metric of inference_eval: f1"):
        _save(_manager(tmp_path, keep=1, checkpoint_manager_cls=_best("inference_eval/task/accuracy")), 2)
    assert read_metrics(tmp_path, "inference_eval/task/eval/f1") == {2: 0.5}


def test_a_metric_of_a_task_that_is_not_evaluated_is_refused_before_the_run(tmp_path):
    best = {"checkpoint_manager_cls": _best("inference_eval/other_task/f1")}
    with pytest.raises(SettingError, match="a metric of a task that this run evaluates, found 'inference_eval/other"):
        tiny_run.run(tmp_path, 4, save=best)
    assert checkpoints.checkpoint_steps(tmp_path) == []
    with pytest.raises(SettingError, match="such as training_eval/noisy/loss"):
        require_evaluated("training_eval/other/loss", {"training_eval": ["noisy"], "inference_eval": []})
    require_evaluated("train/loss", {})


def test_parameters_are_saved_in_the_configured_dtype_and_nothing_else_is(tmp_path):
    state = {**STATE, "state": {"step": jnp.int32(5), "param_states": {"v": jnp.ones((2,), jnp.float32)}}}
    _manager(tmp_path, dtype="bfloat16").save(state, 5)
    stored = _stored(tmp_path / "checkpoint_5")
    assert stored["target/kernel"].dtype == jnp.bfloat16
    assert stored["state/step"].dtype == np.int32 and stored["state/step"] == 5
    assert stored["state/param_states/v"].dtype == np.float32


def test_the_layout_is_that_of_t5x(tmp_path):
    tiny_run.run(tmp_path, 2, period=2)
    path = tmp_path / "checkpoint_2"
    assert {entry.name for entry in path.iterdir()} == {
        "_CHECKPOINT_METADATA",
        "checksums.sha256",
        "commit_success.txt",
        "dataset",
        "state",
    }
    entries = {entry.name for entry in (path / "state").iterdir()}
    assert {"_METADATA", "_sharding", "manifest.ocdbt", "d", "ocdbt.process_0", "array_metadatas"} <= entries
    stored = _stored(path)
    assert stored["state/step"].dtype == np.int32
    assert stored["target/token_embedder/embedding"].shape == (64, 16)
    assert stored["state/param_states/token_embedder/embedding/v_row"].shape == (1,)


def test_a_failed_save_keeps_the_previous_checkpoint(tmp_path):
    manager = _manager(tmp_path)
    _save(manager, 0)
    # Made before: a compiled program that the limit cuts off would stay in the compilation cache.
    kernel = jax.random.normal(jax.random.PRNGKey(0), (256, 256))
    state = {"target": {"kernel": kernel}, "state": {"step": jnp.int32(1)}}
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1024, hard))
    try:
        with pytest.raises(CheckpointError, match=r"it resumes from\s+checkpoint_0"):
            manager.save(state, 1)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert checkpoints.checkpoint_steps(tmp_path) == [0]
    _save(manager, 1)
    assert {entry.name for entry in tmp_path.iterdir()} == {"checkpoint_0", "checkpoint_1"}


def test_leftovers_of_interrupted_saves_are_deleted(tmp_path):
    for name in ("checkpoint_7.tmp-write/state", "checkpoint_3.tmp-delete/state"):
        (tmp_path / name).mkdir(parents=True)
    assert checkpoints.checkpoint_steps(tmp_path) == []
    _save(_manager(tmp_path), 8)
    assert [entry.name for entry in tmp_path.iterdir()] == ["checkpoint_8"]


def test_a_directory_that_cannot_be_written_is_an_error_before_anything_else(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError, match="a directory that can be written"):
        tiny_run.run(tmp_path / "file" / "run", 2)


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    directory = tmp_path_factory.mktemp("trained")
    tiny_run.run(directory, 4, period=2)
    return directory


def _truncate(checkpoint: Path) -> None:
    for file in checkpoint.rglob("*"):
        if file.is_file() and file.parent.name == "d":
            file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def _flip_a_bit(checkpoint: Path) -> None:
    file = max((checkpoint / "state" / "d").iterdir(), key=lambda entry: entry.stat().st_size)
    content = bytearray(file.read_bytes())
    content[len(content) // 3] ^= 4
    file.write_bytes(content)


@pytest.mark.parametrize("damage", [_truncate, _flip_a_bit])
def test_a_damaged_checkpoint_is_an_error_or_the_previous_one_is_used(tmp_path, capfd, damage):
    """TensorStore's bare Exception for truncated arrays, and names that are taken already."""
    tiny_run.run(tmp_path, 4, period=2)
    losses = tiny_run.losses(tmp_path)
    (tmp_path / "checkpoint_4.corrupt").mkdir()
    damage(tmp_path / "checkpoint_4")
    with pytest.raises(CheckpointError, match="checkpoint_4: expected a complete checkpoint"):
        tiny_run.run(tmp_path, 4, period=2)
    tiny_run.run(tmp_path, 4, period=2, on_corrupt_checkpoint="previous")
    assert "renamed to checkpoint_4.corrupt-2; continuing with checkpoint_2" in capfd.readouterr().err
    assert tiny_run.losses(tmp_path) == losses
    assert checkpoints.checkpoint_steps(tmp_path) == [0, 2, 4]


def _tree(directory: Path) -> dict[str, bytes]:
    """Every file below ``directory/checkpoint_*``."""
    files = [file for file in directory.glob("checkpoint_*/**/*") if file.is_file()]
    return {str(file.relative_to(directory)): file.read_bytes() for file in files}


def test_a_checkpoint_of_another_model_is_not_renamed(trained, tmp_path):
    """A mismatch is an error of the settings, whatever on_corrupt_checkpoint says, and changes nothing."""
    shutil.copytree(trained, tmp_path, dirs_exist_ok=True)
    before = _tree(tmp_path)
    wider = tiny_run.model(mlp_dim=64)
    with pytest.raises(CheckpointError, match=r"checkpoint_4: expected the shapes of this model"):
        tiny_run.run(tmp_path, 6, period=2, model=wider, on_corrupt_checkpoint="previous")
    (tmp_path / "checkpoint_4" / "state" / "manifest.ocdbt").write_bytes(b"")
    with pytest.raises(CheckpointError, match=r"checkpoint_2: expected the shapes of this model"):
        tiny_run.run(tmp_path, 6, period=2, model=wider, on_corrupt_checkpoint="previous")
    assert _tree(tmp_path).keys() == before.keys()


def test_without_an_intact_checkpoint_the_run_ends_and_changes_nothing(trained, tmp_path):
    """Neither from scratch nor from INITIAL_CHECKPOINT_PATH again."""
    shutil.copytree(trained, tmp_path, dirs_exist_ok=True)
    for checkpoint in tmp_path.glob("checkpoint_*"):
        _flip_a_bit(checkpoint)
    before = _tree(tmp_path)
    restore = utils.RestoreCheckpointConfig(path=str(trained / "checkpoint_2"), mode="specific")
    for start in (None, restore):
        with pytest.raises(CheckpointError, match="expected an intact checkpoint to continue from"):
            tiny_run.run(tmp_path, 6, period=2, restore=start, on_corrupt_checkpoint="previous")
    assert _tree(tmp_path) == before
    for step in (0, 2, 4):
        (tmp_path / f"checkpoint_{step}").rename(tmp_path / f"checkpoint_{step}.corrupt")
    with pytest.raises(CheckpointError, match=r"only renamed damaged ones: checkpoint_0.corrupt"):
        tiny_run.run(tmp_path, 6, period=2)


def test_a_checkpoint_without_its_state_is_not_silently_skipped(trained, tmp_path):
    shutil.copytree(trained, tmp_path, dirs_exist_ok=True)
    shutil.rmtree(tmp_path / "checkpoint_4" / "state")
    with pytest.raises(CheckpointError, match=r"checkpoint_4: .*state/.* is missing"):
        tiny_run.run(tmp_path, 4, period=2)


def test_a_misspelt_on_corrupt_checkpoint_is_refused_at_the_start(tmp_path):
    with pytest.raises(SettingError, match=r"train.on_corrupt_checkpoint: expected 'error' or 'previous', .* near"):
        tiny_run.run(tmp_path / "run", 2, on_corrupt_checkpoint="previuos")
    assert not (tmp_path / "run").exists()


def test_dataset_positions_are_pruned_and_a_deleted_one_is_found(tmp_path):
    """What keep_dataset_checkpoints deleted is no damage, what something else deleted is."""
    from fsa_base import checkpoint_files  # 528859f has none, and shows the other tests' failures

    tiny_run.run(tmp_path, 6, period=2, save={"keep_dataset_checkpoints": 1})
    assert [(tmp_path / f"checkpoint_{step}" / "dataset").exists() for step in (0, 2, 4, 6)] == [False] * 3 + [True]
    assert [str(checkpoint_files.verify(tmp_path / f"checkpoint_{step}")) for step in (0, 2, 4, 6)] == ["whole"] * 4
    (tmp_path / "checkpoint_6" / "dataset" / "train_ds-000-of-001.json").unlink()
    with pytest.raises(CheckpointError, match=r"checkpoint_6: .*train_ds-000-of-001.json is missing"):
        tiny_run.run(tmp_path, 8, period=2, save={"keep_dataset_checkpoints": 1})


def _start(path: Path, tmp_path: Path, steps: int = 4, model=None, **settings):
    restore = utils.RestoreCheckpointConfig(path=str(path), **settings)
    return tiny_run.run(tmp_path, steps, restore=restore, **({"model": model} if model else {}))[1]


def test_starting_from_a_checkpoint_takes_its_values_and_step(trained, tmp_path):
    state = _start(trained / "checkpoint_4", tmp_path, mode="specific")
    stored = _stored(trained / "checkpoint_4")
    assert int(state.step) == 4
    np.testing.assert_array_equal(
        state.params["token_embedder"]["embedding"], stored["target/token_embedder/embedding"]
    )
    assert int(_start(trained, tmp_path / "latest", mode="latest").step) == 4


def test_for_a_path_without_checkpoint_the_error_says_what_is_there(trained, tmp_path):
    with pytest.raises(CheckpointError, match=r"found a directory with the checkpoints of steps \[0, 2, 4\]"):
        _start(trained, tmp_path, mode="specific")
    with pytest.raises(CheckpointError, match="found nothing"):
        _start(trained / "checkpoint_9", tmp_path, mode="specific")
    with pytest.raises(CheckpointError, match="mode = 'specific'"):
        _start(trained / "checkpoint_4", tmp_path, mode="latest")


def test_missing_entries_and_other_shapes_are_all_named(trained, tmp_path):
    with pytest.raises(CheckpointError, match="of them missing: target/decoder/layers_1"):
        _start(trained / "checkpoint_4", tmp_path, mode="specific", model=tiny_run.model(num_decoder_layers=2))
    with pytest.raises(CheckpointError, match=r"others: .*wi_0/kernel \(16, 64\), stored \(16, 32\)"):
        _start(trained / "checkpoint_4", tmp_path, mode="specific", model=tiny_run.model(mlp_dim=64))


def test_missing_entries_get_initial_values_if_configured(trained, tmp_path, caplog):
    deeper = tiny_run.model(num_decoder_layers=2)
    state = _start(trained / "checkpoint_4", tmp_path, model=deeper, mode="specific", fallback_to_scratch=True)
    first = state.params["decoder"]["layers_0"]["mlp"]["wo"]["kernel"]
    np.testing.assert_array_equal(first, _stored(trained / "checkpoint_4")["target/decoder/layers_0/mlp/wo/kernel"])
    assert any("have INITIAL values" in record.getMessage() for record in caplog.records)


def test_an_assignment_map_renames_and_leaves_out(trained, tmp_path):
    mapping = [
        (r"target/decoder/layers_1/(.*)", r"target/decoder/layers_0/\1"),
        (r"state/param_states/decoder/layers_1/.*", None),
    ]
    deeper = tiny_run.model(num_decoder_layers=2)
    state = _start(trained / "checkpoint_4", tmp_path, model=deeper, mode="specific", assignment_map=mapping)
    layers = state.params["decoder"]
    jax.tree.map(np.testing.assert_array_equal, layers["layers_0"], layers["layers_1"])
    with pytest.raises(CheckpointError, match="found none for 'target/no_such"):
        _start(trained / "checkpoint_4", tmp_path / "b", mode="specific", assignment_map=[("target/no_such.*", None)])


def test_transformations_see_the_stored_state(trained, tmp_path):
    def zero_embedding(stored, target, is_resuming):
        assert not is_resuming and "token_embedder" in target["target"]
        stored["target"]["token_embedder"]["embedding"] = np.zeros((64, 16), np.float32)
        return stored

    state = _start(trained / "checkpoint_4", tmp_path, mode="specific", state_transformation_fns=[zero_embedding])
    assert not np.any(state.params["token_embedder"]["embedding"])


def test_only_parameters_are_cast_on_restoring(trained):
    initializer = utils.TrainStateInitializer(
        optimizer_def=tiny_run.model().optimizer_def,
        init_fn=tiny_run.model().get_initial_variables,
        input_shapes=dict.fromkeys(("encoder_input_tokens", "decoder_input_tokens", "decoder_target_tokens"), (8, 16)),
        partitioner=partitioning.PjitPartitioner(num_partitions=1),
    )
    config = utils.RestoreCheckpointConfig(path=str(trained), mode="all", dtype="bfloat16")
    states = [(int(state.step), state) for state, _ in initializer.from_checkpoints([config])]
    assert [step for step, _ in states] == [0, 2, 4]
    state = states[-1][1]
    assert {leaf.dtype for leaf in jax.tree.leaves(state.params)} == {jnp.dtype(jnp.bfloat16)}
    assert state.step.dtype == jnp.int32
    assert {leaf.dtype for leaf in jax.tree.leaves(state.param_states)} == {jnp.dtype(jnp.float32)}


def test_rows_after_the_restored_step_and_damaged_rows_are_deleted(tmp_path):
    file = tmp_path / "train" / "metrics.jsonl"
    file.parent.mkdir()
    first = b'{"step": 1, "loss": 2.0}\n'
    file.write_bytes(first + b'{"step": 1, "l\xffss": 3.0}\n{"step": 2, "loss": 1.0}\n{"step": 3, "lo')
    assert [row.keys() for row in metric_rows(tmp_path, "train", "")] == [{"step", "loss"}] * 2
    assert drop_rows_after(tmp_path, 1) == 3
    assert file.read_bytes() == first


def test_only_process_0_deletes_rows_and_the_others_wait(tmp_path, monkeypatch):
    """On resumption every process rewrote the same files."""
    file = tmp_path / "train" / "metrics.jsonl"
    file.parent.mkdir()
    rows = '{"step": 1, "loss": 2.0}\n{"step": 2, "loss": 1.0}\n'
    at_the_barrier: dict[int, str] = {}
    for index in (0, 1, 2):
        file.write_text(rows)
        monkeypatch.setattr(jax, "process_index", lambda index=index: index)
        monkeypatch.setattr(
            metric_log.processes, "barrier", lambda _, index=index: at_the_barrier.update({index: file.read_text()})
        )
        monkeypatch.setattr(metric_log.processes, "broadcast", lambda value, index=index: 1 if index else value)
        assert drop_rows_after(tmp_path, 1) == 1
    assert at_the_barrier == {0: rows.splitlines(keepends=True)[0], 1: rows, 2: rows}


def test_a_tensorflow_checkpoint_is_refused_with_an_alternative(tmp_path):
    (tmp_path / "model.ckpt-100.index").write_text("")
    with pytest.raises(CheckpointError, match="found a TensorFlow checkpoint"):
        _start(tmp_path / "model.ckpt-100", tmp_path / "run", mode="specific")


def _write_legacy(path: Path, state_dict: dict) -> None:
    """Writes ``state_dict`` as T5X did before Orbax: msgpack, with matrices beside it as gzip-compressed zarr."""
    path.mkdir(parents=True)
    entries = {}
    for name, value in flatten_dict(state_dict, sep="/").items():
        value = np.asarray(value)
        if value.ndim < 2:
            entries[name] = value
            continue
        directory = name.replace("/", ".")
        spec = {
            "driver": "zarr",
            "kvstore": {"driver": "file", "path": str(path / directory)},
            "metadata": {
                "shape": list(value.shape),
                "chunks": list(value.shape),
                "dtype": "<f4",
                "compressor": {"id": "gzip"},
            },
        }
        tensorstore.open(spec, create=True).result().write(value).result()
        # As in the public checkpoints: an older spec, of a bucket, with the path beside the driver.
        entries[name] = {
            "driver": "zarr",
            "kvstore": {"driver": "gcs", "bucket": "b"},
            "path": f"some/where/{directory}/",
        }
    state = {"version": 3, "optimizer": unflatten_dict(entries, sep="/")}
    (path / "checkpoint").write_bytes(serialization.msgpack_serialize(state))


def test_an_older_checkpoint_of_msgpack_and_zarr_is_read(trained, tmp_path):
    stored = _stored(trained / "checkpoint_4")
    _write_legacy(tmp_path / "old" / "checkpoint_4", unflatten_dict(stored, sep="/"))
    state = _start(tmp_path / "old" / "checkpoint_4", tmp_path / "run", mode="specific")
    restored = flatten_dict(state.state_dict(), sep="/")
    assert restored.keys() == stored.keys()
    for name, value in stored.items():
        np.testing.assert_array_equal(restored[name], value)
    next((tmp_path / "old" / "checkpoint_4").glob("target.*/.zarray")).unlink()
    with pytest.raises(CheckpointError, match="copy the whole checkpoint directory"):
        _start(tmp_path / "old" / "checkpoint_4", tmp_path / "again", mode="specific")


def test_parameters_alone_are_restored_with_one_line_of_message(trained, tmp_path, capsys, caplog):
    mapping = [("state/.*", None)]
    _start(trained / "checkpoint_4", tmp_path, mode="specific", assignment_map=mapping, fallback_to_scratch=True)
    said = [line for line in capsys.readouterr().err.splitlines() if "state/" in line or "restored" in line]
    path = trained / "checkpoint_4"
    assert said == [f"restored the parameters from {path}; the optimizer starts anew, as the recipe asks"]
    assert not [record for record in caplog.records if "/t5x/" in record.pathname]
