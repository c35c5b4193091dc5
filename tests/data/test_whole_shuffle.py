"""The training order is a whole shuffle of the task's examples, new in every epoch, and is restored
when a run resumes."""

from __future__ import annotations

import itertools
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import seqio
import tensorflow as tf
from scipy import stats

from fsa_jax.cli.main import main
from fsa_jax.data import train_subsets
from fsa_jax.data.corpus_source import CorpusSource
from fsa_jax.data.sources import TeacherTextSource
from fsa_jax.data.task_builders import OrderedTask

ROOT = Path(__file__).parents[2]
ROWS = 4_500
"""Number of reviews: four times the window in which SeqIO shuffles."""
BYTES = seqio.ByteVocabulary()
FEATURES = {name: seqio.Feature(BYTES, add_eos=True) for name in ("inputs", "targets")}
PREPROCESSORS = (
    seqio.preprocessors.tokenize,
    seqio.CacheDatasetPlaceholder(),
    seqio.preprocessors.append_eos_after_trim,
)


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory) -> Path:
    """Analyses in one JSONL file, and a corpus with the same rows."""
    root = tmp_path_factory.mktemp("data")
    (root / "teacher").mkdir()
    with (root / "teacher" / "all.jsonl").open("w") as file:
        for number in range(ROWS):
            response = f'Opinion Target 1: "tea"\nReasoning: {number}.'
            file.write(
                json.dumps({"ID": number, "Text": f"Tea {number}.", "Overall": 4, "a_response": response}) + "\n"
            )
    assert main(["corpus", str(root / "teacher" / "all.jsonl"), str(root / "corpus"), "--shards", "3"]) == 0
    return root


@pytest.fixture(autouse=True)
def _configured(data_dir, monkeypatch):
    monkeypatch.setenv("FSA_DATA_DIR", str(data_dir))
    for variable in ("FSA_HELD_OUT", "FSA_HELD_OUT_SEED"):
        monkeypatch.delenv(variable, raising=False)


def a_task(source: seqio.DataSource, name: str = "shuffled") -> OrderedTask:
    """A task with a byte vocabulary, which is fast."""
    return OrderedTask(name, source, FEATURES, PREPROCESSORS)


TASKS = {
    "lines of a file": lambda: a_task(TeacherTextSource("analysis")),
    "corpus": lambda: a_task(CorpusSource("analysis")),
}


def examples_of(task: OrderedTask) -> int:
    """The number of training examples, which all these tasks know."""
    count = task.num_input_examples("train")
    assert count is not None
    return count


def rows(task: Any, **options: Any) -> np.ndarray:
    """The numbers of the rows in training order."""
    options = {"sequence_length": {"inputs": 16, "targets": 16}, "seed": 3, **options}
    dataset = task.get_dataset(split="train", shuffle=True, **options).map(lambda example: example["row"])
    return np.fromiter(dataset.as_numpy_iterator(), np.int64)


def is_whole(order: np.ndarray) -> None:
    """Checks that an order looks like a uniformly random permutation; a shuffle in a window of 1,000 fails each
    test."""
    count = len(order)
    places = stats.rankdata(order) - 1
    moved = np.abs(places - np.arange(count))
    # The mean is (n^2 - 1) / 3n, the standard deviation about 0.211 sqrt(n): allow six standard deviations.
    assert abs(moved.mean() - count / 3) < 6 * 0.22 * np.sqrt(count)
    assert abs(stats.spearmanr(places, np.arange(count)).statistic) < 6 / np.sqrt(count)
    # The rows of each tenth of the file are spread evenly over the order.
    table = np.histogram2d(places, np.arange(count), bins=10)[0]
    assert stats.chi2_contingency(table).pvalue > 1e-6


@pytest.mark.parametrize("kind", TASKS)
def test_an_epoch_is_a_whole_shuffle(kind):
    task = TASKS[kind]()
    count = examples_of(task)
    two = rows(task, num_epochs=2)
    first, second = two[:count], two[count:]
    assert len(two) == 2 * count and count > ROWS - 600
    for epoch in (first, second):
        is_whole(epoch)
        assert len(np.unique(epoch)) == count, "each example exactly once"
    assert abs(stats.spearmanr(first, second).statistic) < 6 / np.sqrt(count), "a new order in every epoch"
    np.testing.assert_array_equal(rows(task, num_epochs=2)[: 2 * count], two)
    assert (rows(task, seed=4)[:100] != first[:100]).any()


def test_tasks_of_a_mixture_have_independent_orders():
    one, other = (rows(a_task(TeacherTextSource("analysis"), name)) for name in ("one", "other"))
    assert abs(stats.spearmanr(one, other).statistic) < 6 / np.sqrt(len(one))


def test_the_released_training_sets_are_shuffled_whole(data_dir):
    from tests.test_tasks import _sentence

    folder = data_dir / "fsa" / "atsa" / "rest14"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "train.json").write_text(json.dumps([_sentence(number, words=False) for number in range(2432)]))
    from fsa_jax.data.sources import FsaSource

    is_whole(rows(a_task(FsaSource("atsa/rest14"))))
    seqio.TaskRegistry.add_provider("whole_fsa", a_task(FsaSource("atsa/rest14"), "whole_fsa"))
    share = train_subsets.training_share("whole_fsa", fraction=0.75, seed=1, module=__name__)
    order = rows(seqio.get_mixture_or_task(share))
    is_whole(order)
    assert len(set(order)) == 1824


def test_processes_divide_one_order():
    processes = 3
    task = TASKS["lines of a file"]()
    whole = rows(task, num_epochs=2)
    parts = [rows(task, num_epochs=2, shard_info=seqio.ShardInfo(index, processes)) for index in range(processes)]
    merged = [row for step in itertools.zip_longest(*parts) for row in step if row is not None]
    np.testing.assert_array_equal(merged, whole)


def cache(task: OrderedTask, directory: Path) -> None:
    """Writes the files of seqio_cache_tasks for the training split, in an arbitrary order."""
    from seqio import utils

    examples = list(task.preprocess_precache(task.source.get_dataset("train", shuffle=False)).as_numpy_iterator())
    np.random.default_rng(0).shuffle(examples)  # pyright: ignore
    out = directory / task.name
    out.mkdir(parents=True)
    parts = [examples[part::4] for part in range(4)]
    for part, found in enumerate(parts):
        with tf.io.TFRecordWriter(str(out / f"train.tfrecord-{part:05}-of-00004")) as writer:
            for example in found:
                writer.write(utils.dict_to_tfexample(example).SerializeToString())
    features = {
        name: {
            "shape": [None] if np.ndim(value) else [],
            "dtype": str(np.asarray(value).dtype) if not isinstance(value, bytes) else "string",
        }
        for name, value in examples[0].items()
    }
    (out / "info.train.json").write_text(json.dumps({"num_shards": 4, "features": features, "seqio_version": "0.0.20"}))
    (out / "stats.train.json").write_text(json.dumps({"examples": len(examples)}))
    (out / "COMPLETED").touch()


@pytest.mark.parametrize("kind", TASKS)
def test_the_order_is_the_same_with_a_cache(kind, tmp_path):
    task = TASKS[kind]()
    cache(task, tmp_path)
    seqio.set_global_cache_dirs([str(tmp_path)])
    try:
        options: Any = {"sequence_length": {"inputs": 16, "targets": 16}, "split": "train", "seed": 3, "num_epochs": 2}
        cached, fresh = (
            task.get_dataset(use_cached=use_cached, shuffle=True, **options).take(1_000).as_numpy_iterator()
            for use_cached in (True, False)
        )
        for one, other in zip(cached, fresh, strict=True):
            assert one.keys() == other.keys()
            for name in one:
                np.testing.assert_array_equal(one[name], other[name])
        # The state of tf.data's iterator in the middle of the second epoch, as save_dataset saves it.
        dataset = task.get_dataset(use_cached=True, shuffle=True, **options)
        place = examples_of(task) + 777
        iterator = iter(dataset.skip(place))
        next(iterator)
        state = tf.train.Checkpoint(ds=iterator).write(str(tmp_path / "state"))
        expected = [next(iterator)["row"].numpy() for _ in range(50)]
        again = iter(task.get_dataset(use_cached=True, shuffle=True, **options).skip(place))
        tf.train.Checkpoint(ds=again).read(state).assert_consumed()
        assert [next(again)["row"].numpy() for _ in range(50)] == expected
        assert sum(file.stat().st_size for file in tmp_path.glob("state*")) < 1_000_000, "no rows in the state"
    finally:
        seqio.set_global_cache_dirs([])


def test_a_message_gives_the_window_of_a_partial_shuffle(monkeypatch, caplog):
    from fsa_jax.data import shuffling

    task = TASKS["corpus"]()
    count = examples_of(task)
    monkeypatch.setattr(shuffling, "MEMORY", task.source.size("train") // 4)
    window = count * shuffling.MEMORY // task.source.size("train")
    shuffling._say_window.cache_clear()
    for _ in range(2):
        order = rows(task, num_epochs=2)
        assert len(np.unique(order[:count])) == len(np.unique(order[count:])) == count
        assert (order[:count] != order[count:]).any()
    said = [record.getMessage() for record in caplog.records if record.name == "fsa_jax.data.shuffling"]
    assert len(said) == 1 and f"a window of {window}" in said[0]


def test_a_run_resumes_in_the_middle_of_its_second_epoch(data_dir, tmp_path):
    """Tests one of two processes, both with skipped batches and with tf.data's state (``save_dataset``)."""
    code = """
import json, os, sys, pathlib, numpy as np, seqio
from etils import epath
from t5x.data.position import TrainingData
from t5x.data.datasets import DatasetConfig
from tests.data.test_whole_shuffle import TASKS
task = TASKS["lines of a file"]()
config = DatasetConfig(task, {"inputs": 16, "targets": 16}, "train", 512, True, 3)
def data(save=False): return TrainingData(config, 1, 2, seqio.EncDecFeatureConverter, save_iterator=save)
def rows(batches): return [next(batches)["encoder_input_tokens"] for _ in range(5)]
for save in (False, True):
    place = epath.Path(sys.argv[1]) / str(save); place.mkdir(parents=True)
    whole = data(save)
    for _ in range(task.num_input_examples("train") // 512 + 9): next(whole)
    whole.save(place)
    expected = rows(whole)
    again = data(save); again.seek(place)
    for one, other in zip(expected, rows(again), strict=True): np.testing.assert_array_equal(one, other)
def taken(position, **settings):
    os.environ.update(settings)
    file.write_text(json.dumps(position))
    found = data(); found.seek(place)
    return found.taken
(file,) = place.glob("*.json")
position = json.loads(file.read_text())
def without(name): return {key: value for key, value in position.items() if key != name}
for name in ("rows", "content"):
    assert taken(without(name)) == whole.taken - 5  # as versions before them wrote it
print("same", taken(without("order")))  # as 528859f wrote it
print("other rows", taken(position, FSA_HELD_OUT_SEED="1"))
print("more rows", taken(position, FSA_HELD_OUT_SEED="0", FSA_HELD_OUT="350"))
"""
    environment = {**os.environ, "FSA_DATA_DIR": str(data_dir)}
    run = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "dataset")],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert run.stdout.endswith("same 0\nother rows 0\nmore rows 0\n"), run.stderr[-3000:]
    assert "order is whole shuffle and was None; it starts FROM THE BEGINNING" in run.stderr
    contents = re.findall(r"content is {'shuffled': '(\w+)'} and was {'shuffled': '(\w+)'}", run.stderr)
    assert len(contents) == 2 and all(one != other for one, other in contents)
    ((more, before),) = re.findall(r"rows is {'shuffled': (\d+)} and was {'shuffled': (\d+)}", run.stderr)
    assert int(more) == int(before) + 100
