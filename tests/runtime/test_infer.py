"""Decoding and scoring of a task: in training, by ``evaluate``, and as files by ``infer``."""

from __future__ import annotations

import functools
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import seqio
import tensorflow as tf
import tiny_run
import tiny_tasks
from etils import epath

from fsa_base import checkpoint_files
from fsa_base.errors import CheckpointError, SettingError
from t5x import checkpoints, partitioning, utils
from t5x.eval import evaluate
from t5x.hooks import run_directory
from t5x.infer import create_task_from_tfexample_file, infer
from t5x.inference.files import was_of_same_settings, write_inferences_to_file

LOGGERS = [seqio.JSONLogger, seqio.TensorBoardLogger]
EVALUATOR = functools.partial(seqio.Evaluator, logger_cls=LOGGERS)
TEST = {"split": "test", "pack": False, "shuffle": False, "batch_size": 16}


being_scored_at: dict[int, set[int]] = {}
"""What the manager of ``trained`` was told at the save of each step."""


class Manager(checkpoints.OrbaxCheckpointManagerInterface):
    def save(self, state_dict: Any, step: int, *arguments: Any) -> None:
        being_scored_at[step] = self.being_scored()
        super().save(state_dict, step, *arguments)


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    directory = tmp_path_factory.mktemp("trained")
    validation = tiny_run.dataset(split="validation", pack=False, shuffle=False, task_feature_lengths=None)
    tiny_run.run(
        directory,
        4,
        period=2,
        train_eval_dataset_cfg=tiny_run.dataset(split="validation"),
        infer_eval_dataset_cfg=validation,
        inference_evaluator_cls=EVALUATOR,
        concurrent_metrics=True,
        save={"checkpoint_manager_cls": Manager},
    )
    return directory


def _jsonl(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def _restore(path: Path, **settings) -> utils.RestoreCheckpointConfig:
    return utils.RestoreCheckpointConfig(path=str(path), **{"mode": "specific", **settings})


def _evaluate(trained: Path, output: Path, **arguments) -> None:
    defaults = {
        "model": tiny_run.model(),
        "dataset_cfg": tiny_run.dataset(**TEST, task_feature_lengths=None),
        "restore_checkpoint_cfg": _restore(trained / "checkpoint_4"),
        "partitioner": partitioning.PjitPartitioner(num_partitions=1),
        "output_dir": str(output),
        "inference_evaluator_cls": EVALUATOR,
        "summarize_config_fn": lambda directory, writer, step: None,
    }
    evaluate(**{**defaults, **arguments})


def test_training_writes_the_files_of_t5x(trained):
    assert [row["step"] for row in _jsonl(trained / "training_eval" / "tiny_noisy" / "metrics.jsonl")] == [2, 4]
    metrics = _jsonl(trained / "inference_eval" / "tiny_noisy-metrics.jsonl")
    assert [row["step"] for row in metrics] == [2, 4]
    assert metrics[0].keys() == {"step", "first_token", "mean_score"}
    assert len(_jsonl(trained / "inference_eval" / "tiny_noisy-000004.jsonl")) == 60
    assert list((trained / "inference_eval" / "tiny_noisy").glob("events*"))
    assert list((trained / "train").glob("events*")) and (trained / "model-info.txt").exists()


def test_the_checkpoint_manager_knows_which_checkpoint_is_being_scored(trained):
    assert being_scored_at == {0: set(), 2: set(), 4: {2}}


def test_evaluate_scores_every_checkpoint_once(trained, tmp_path):
    every = _restore(trained, mode="all")
    _evaluate(trained, tmp_path, restore_checkpoint_cfg=every)
    rows = _jsonl(tmp_path / "inference_eval" / "tiny_noisy-metrics.jsonl")
    assert [row["step"] for row in rows] == [0, 2, 4]
    assert (tmp_path / "eval.tiny_noisy.ckpt").read_text().endswith("checkpoint_4")
    _evaluate(trained, tmp_path, restore_checkpoint_cfg=every)
    assert _jsonl(tmp_path / "inference_eval" / "tiny_noisy-metrics.jsonl") == rows
    _evaluate(trained, tmp_path / "one")
    assert _jsonl(tmp_path / "one" / "inference_eval" / "tiny_noisy-metrics.jsonl") == rows[-1:]


def test_evaluate_without_a_checkpoint_is_an_error(trained, tmp_path):
    with pytest.raises(CheckpointError, match="CHECKPOINT_PATH"):
        _evaluate(trained, tmp_path, restore_checkpoint_cfg=utils.RestoreCheckpointConfig(path=""))


def _infer(trained: Path, output: Path, **arguments) -> None:
    defaults = {
        "mode": "predict",
        "model": tiny_run.model(),
        "dataset_cfg": tiny_run.dataset(**TEST),
        "restore_checkpoint_cfg": _restore(trained / "checkpoint_4", dtype="bfloat16"),
        "partitioner": partitioning.PjitPartitioner(num_partitions=1),
        "output_dir": str(output),
        "checkpoint_period": 2,
        "summarize_config_fn": lambda directory, writer, step: None,
    }
    infer(**{**defaults, **arguments})


def test_infer_writes_predictions_and_scores_in_order(trained, tmp_path):
    write = functools.partial(write_inferences_to_file, input_fields_to_include=["inputs"])
    _infer(trained, tmp_path, write_fn=write)
    _infer(trained, tmp_path, mode="score", write_fn=write)
    predictions = _jsonl(tmp_path / "tiny_noisy-predict.jsonl-00000-of-00001")
    scores = _jsonl(tmp_path / "tiny_noisy-score.jsonl-00000-of-00001")
    assert len(predictions) == 60 and all(row["score"] < 0 for row in scores)
    assert [row["inputs"] for row in predictions] == [row["inputs"] for row in scores]
    assert (tmp_path / "tiny_noisy-predict.jsonl-00000-of-00001.COMPLETED").exists()
    assert not list(tmp_path.glob("*.chunks"))


def test_an_interrupted_inference_continues_with_the_first_missing_chunk(trained, tmp_path):
    written: list[str] = []

    def write(path, *args, **kwargs):
        if len(written) == 1:
            written.append("interrupted")
            raise KeyboardInterrupt
        written.append(path)
        write_inferences_to_file(path, *args, **kwargs)

    with pytest.raises(KeyboardInterrupt):
        _infer(trained, tmp_path / "parts", write_fn=write)
    _infer(trained, tmp_path / "parts", write_fn=write)
    assert [Path(path).name for path in written] == ["chunk-000000.tmp", "interrupted", "chunk-000001.tmp"]
    _infer(trained, tmp_path / "whole")
    name = "tiny_noisy-predict.jsonl-00000-of-00001"
    assert (tmp_path / "parts" / name).read_text() == (tmp_path / "whole" / name).read_text()


def test_chunks_of_another_checkpoint_are_not_joined(trained, tmp_path):
    """Rows of two models were written to one file, with exit status 0."""

    def write(path, *args, **kwargs):
        if "chunk-000001" in path:
            raise KeyboardInterrupt
        write_inferences_to_file(path, *args, **kwargs)

    with pytest.raises(KeyboardInterrupt):
        _infer(trained, tmp_path, write_fn=write)
    for others in (
        {"restore_checkpoint_cfg": _restore(trained / "checkpoint_2", dtype="bfloat16")},
        {"checkpoint_period": 1},
    ):
        with pytest.raises(SettingError, match="the chunks of an interrupted run with the same settings"):
            _infer(trained, tmp_path, **others)
    _infer(trained, tmp_path)
    assert len(_jsonl(tmp_path / "tiny_noisy-predict.jsonl-00000-of-00001")) == 60


def test_a_complete_inference_of_another_checkpoint_is_an_error(trained, tmp_path, capfd):
    completed = tmp_path / "out" / "tiny_noisy-predict.jsonl-00000-of-00001.COMPLETED"
    checkpoint = tmp_path / "run" / "checkpoint_4"
    shutil.copytree(trained / "checkpoint_4", checkpoint)
    _infer(trained, completed.parent, restore_checkpoint_cfg=_restore(checkpoint))
    # What keep_dataset_checkpoints deletes meanwhile, no prediction depends on.
    checkpoint_files.forget_dataset(checkpoint)
    _infer(trained, completed.parent, restore_checkpoint_cfg=_restore(checkpoint))
    assert capfd.readouterr().out.endswith(".COMPLETED\n")
    shutil.rmtree(checkpoint)
    shutil.copytree(trained / "checkpoint_2", checkpoint)
    with pytest.raises(SettingError, match=r"COMPLETED: .* one of another: its content .*\n.*rm .*COMPLETED"):
        _infer(trained, completed.parent, restore_checkpoint_cfg=_restore(checkpoint))
    completed.write_text("{")
    with pytest.raises(SettingError, match="a record that cannot be read"):
        was_of_same_settings(epath.Path(completed), {"checkpoint": str(checkpoint)})
    completed.write_text("")  # T5X's, and ours before.
    _infer(trained, completed.parent, restore_checkpoint_cfg=_restore(checkpoint))
    assert capfd.readouterr().out.endswith("not verified\n")


reviews: list[list[int]] = []
"""What the source of the task ``reviews`` holds, as a file would."""


def _reviews(split: str, shuffle_files: bool, seed: int | None = None) -> tf.data.Dataset:
    del split, shuffle_files, seed
    rows = tf.ragged.constant(reviews, dtype=tf.int32, ragged_rank=1)
    return tf.data.Dataset.from_tensor_slices(rows).map(lambda row: {"inputs": row, "targets": row})


seqio.TaskRegistry.add(
    "reviews",
    source=seqio.FunctionDataSource(_reviews, splits=("test",)),  # type: ignore[arg-type]
    preprocessors=[seqio.preprocessors.append_eos],
    output_features=tiny_tasks.FEATURES,
)
RESULT = "reviews-predict.jsonl-00000-of-00001"
write_inputs = functools.partial(write_inferences_to_file, input_fields_to_include=["inputs"])


def _of_day(day: int, rows: int = 40) -> None:
    reviews[:] = [[day] * 4 + [2 + number % 50] for number in range(rows)]


def _infer_reviews(trained: Path, output: Path, **arguments) -> None:
    config = tiny_run.dataset(**{**TEST, "batch_size": 8}, mixture_or_task_name="reviews")
    _infer(trained, output, **{"dataset_cfg": config, "write_fn": write_inputs, **arguments})


def _interrupted(path, *args, **kwargs) -> None:
    if "chunk-000001" in path:
        raise KeyboardInterrupt
    write_inputs(path, *args, **kwargs)


def _days(result: Path) -> list[int]:
    return [row["inputs"]["inputs"][0] for row in _jsonl(result)]


def test_a_complete_inference_of_other_examples_is_an_error(trained, tmp_path):
    for merged in (True, False):
        output = tmp_path / str(merged)
        _of_day(5)
        _infer_reviews(trained, output, merge_chunked_results=merged)
        _of_day(9)
        with pytest.raises(SettingError, match=r"one of another: digest of the examples .*\n.*rm .*COMPLETED"):
            _infer_reviews(trained, output, merge_chunked_results=merged)
    (tmp_path / "True" / f"{RESULT}.COMPLETED").unlink()
    _infer_reviews(trained, tmp_path / "True")
    assert _days(tmp_path / "True" / RESULT) == [9] * 40


def test_chunks_of_other_examples_are_not_joined(trained, tmp_path):
    _of_day(5)
    with pytest.raises(KeyboardInterrupt):
        _infer_reviews(trained, tmp_path, write_fn=_interrupted)
    for day, rows in ((9, 40), (5, 41)):
        _of_day(day, rows)
        with pytest.raises(SettingError, match=r"found those of another: .*examples"):
            _infer_reviews(trained, tmp_path)
    _of_day(5)
    _infer_reviews(trained, tmp_path)
    assert _days(tmp_path / RESULT) == [5] * 40


def _forget_examples(record: Path) -> dict[str, Any]:
    """Makes a record of it as versions wrote it that knew nothing of examples."""
    settings = json.loads(record.read_text())
    older = {name: value for name, value in settings.items() if "examples" not in name or name == "examples of a chunk"}
    assert len(older) == len(settings) - 2
    record.write_text(json.dumps(older))
    return older


def test_records_without_the_examples_are_accepted_as_not_verified(trained, tmp_path, capfd):
    completed = tmp_path / "whole" / f"{RESULT}.COMPLETED"
    _of_day(5)
    _infer_reviews(trained, completed.parent)
    _forget_examples(completed)
    _infer_reviews(trained, completed.parent)
    assert capfd.readouterr().out.endswith("not verified\n")
    completed.write_text(json.dumps(json.loads(completed.read_text()) | {"examples of a chunk": 1}))
    with pytest.raises(SettingError, match="one of another: examples of a chunk 1"):
        _infer_reviews(trained, completed.parent)

    with pytest.raises(KeyboardInterrupt):
        _infer_reviews(trained, tmp_path / "parts", write_fn=_interrupted)
    older = _forget_examples(tmp_path / "parts" / f"{RESULT}.chunks" / "settings.json")
    _infer_reviews(trained, tmp_path / "parts")
    assert "their examples are not recorded: not verified" in capfd.readouterr().out
    assert json.loads((tmp_path / "parts" / f"{RESULT}.COMPLETED").read_text()) == older


@pytest.mark.parametrize("merged", [True, False])
def test_an_inference_whose_result_was_deleted_is_not_complete(trained, tmp_path, merged):
    _of_day(5)
    _infer_reviews(trained, tmp_path, merge_chunked_results=merged)
    gone = tmp_path / RESULT if merged else tmp_path / f"{RESULT}.chunks" / "chunk-000001"
    text = gone.read_text()
    gone.unlink()
    _infer_reviews(trained, tmp_path, merge_chunked_results=merged)
    assert gone.read_text() == text


def test_a_second_inference_with_the_same_output_is_refused(trained, tmp_path, monkeypatch):
    monkeypatch.setattr(run_directory, "PATIENCE_SECONDS", 0.0)
    refused: list[str] = []

    def write(path, *args, **kwargs):
        if not refused:  # A requeued job, while this one works.
            with pytest.raises(SettingError) as error:
                _infer_reviews(trained, tmp_path)
            refused.append(str(error.value))
            _infer_reviews(trained, tmp_path, shard_id=1, num_shards=2)  # Another part is another job.
        write_inputs(path, *args, **kwargs)

    _of_day(5)
    _infer_reviews(trained, tmp_path, write_fn=write)
    assert "INFER_OUTPUT_DIR: expected no other run in" in refused[0]
    assert f"found one that is inferring {RESULT}: process " in refused[0]
    assert _days(tmp_path / RESULT) == [5] * 40
    assert len(_days(tmp_path / "reviews-predict.jsonl-00001-of-00002")) == 20


def test_files_are_on_the_disk_before_they_are_renamed_and_chunks_deleted(trained, tmp_path, monkeypatch):
    synced: list[str] = []

    def sync(path, recursive=True):
        assert not recursive
        chunks = len(list(tmp_path.glob("*.chunks/chunk-??????")))
        synced.append(f"{Path(path).relative_to(tmp_path)}, chunks: {chunks}".replace(RESULT, "R"))

    monkeypatch.setattr("fsa_base.disk.sync", sync)
    _of_day(5)
    _infer_reviews(trained, tmp_path, checkpoint_period=3)
    assert synced == [
        "R.chunks/settings.json.tmp, chunks: 0",
        "R.chunks, chunks: 0",
        "R.chunks/chunk-000000.tmp, chunks: 0",
        "R.chunks, chunks: 1",
        "R.chunks/chunk-000001.tmp, chunks: 1",
        "R.chunks, chunks: 2",
        "R.tmp, chunks: 2",
        "., chunks: 2",
        "R.COMPLETED.tmp, chunks: 0",
        "., chunks: 0",
    ]


def test_shards_of_inference_cover_all_examples(trained, tmp_path):
    for shard in (0, 1):
        _infer(trained, tmp_path, mode="predict_with_aux", shard_id=shard, num_shards=2)
    rows = [_jsonl(tmp_path / f"tiny_noisy-predict_with_aux.jsonl-0000{shard}-of-00002") for shard in (0, 1)]
    assert [len(part) for part in rows] == [30, 30]
    assert rows[0][0]["aux"].keys() == {"scores"}
    with pytest.raises(SettingError, match=r"below infer\.num_shards"):
        _infer(trained, tmp_path, shard_id=2, num_shards=2)
    with pytest.raises(SettingError, match="'predict' or 'score' or 'predict_with_aux', found 'guess'"):
        _infer(trained, tmp_path, mode="guess")


def test_a_task_over_files_of_tf_examples(tmp_path):
    with tf.io.TFRecordWriter(str(tmp_path / "a.tfrecord")) as writer:
        feature = tf.train.Feature(bytes_list=tf.train.BytesList(value=[b"good food"]))
        writer.write(tf.train.Example(features=tf.train.Features(feature={"review": feature})).SerializeToString())
    features = {name: seqio.Feature(seqio.ByteVocabulary()) for name in ("inputs", "targets")}
    name = create_task_from_tfexample_file([str(tmp_path / "*.tfrecord")], "tfrecord", "review", None, features)
    dataset = seqio.get_mixture_or_task(name).get_dataset({"inputs": 16, "targets": 4}, "infer", shuffle=False)
    (example,) = dataset.as_numpy_iterator()
    assert example["inputs_pretokenized"] == b"good food"
    assert example["inputs"].tolist() == [*(byte + 3 for byte in b"good food"), 1]


def test_training_continues_without_an_evaluation_that_has_no_metrics(tmp_path, capfd):
    unscored = tiny_run.dataset(mixture_or_task_name="tiny_unscored", split="validation", pack=False, shuffle=False)
    tiny_run.run(tmp_path, 2, period=2, infer_eval_dataset_cfg=unscored)
    assert "no task of tiny_unscored has metrics and the split 'validation'" in capfd.readouterr().err
    assert not (tmp_path / "inference_eval").exists()
