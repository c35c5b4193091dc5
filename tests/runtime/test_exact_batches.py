"""Packed batches of exactly N examples: the next N of the stream, whatever the rows, the seed and the processes."""

from __future__ import annotations

import dataclasses
import functools
import json
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import seqio
import tensorflow as tf
import tiny_run
import tiny_tasks
from etils import epath
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("fsa_jax", reason="packs with its converter")

from fsa_base.errors import DataError, SettingError
from fsa_jax.data.packing import BestFitChatFeatureConverter, BestFitEncDecFeatureConverter
from t5x import checkpoints
from t5x.data import datasets, exact_batches, position

LENGTHS = {"inputs": 7, "targets": 6}
ROWS = {"inputs": 20, "targets": 16}
EncDec = functools.partial(BestFitEncDecFeatureConverter, row_lengths=ROWS)
Chat = functools.partial(BestFitChatFeatureConverter, row_lengths={"inputs": 16, "targets": 16})
Example = tuple[tuple[int, ...], ...]


@pytest.fixture(scope="module", autouse=True)
def _few_batches_are_checked() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(exact_batches, "CHECKED", 8)
        yield


def config(**settings: Any) -> datasets.DatasetConfig:
    """12 examples in 10 rows, of which about five are used."""
    defaults = {"task_feature_lengths": LENGTHS, "examples_per_batch": 12, "batch_size": 10}
    return tiny_run.dataset(**{**defaults, **settings})


def examples(batch: Mapping[str, np.ndarray], kinds: tuple[str, ...]) -> Counter[Example]:
    """The examples of a packed batch. A row without segment ids is one example, up to its padding."""
    found: Counter[Example] = Counter()
    for row in range(len(batch[f"{kinds[0]}_tokens"])):
        segments = [batch.get(f"{kind.partition('_')[0]}_segment_ids") for kind in kinds]
        tokens = [batch[f"{kind}_tokens"][row] for kind in kinds]
        ids = [(t > 0).astype(int) if s is None else s[row] for t, s in zip(tokens, segments, strict=True)]
        for segment in range(1, max(i.max() for i in ids) + 1):
            found[tuple(tuple(t[i == segment].tolist()) for t, i in zip(tokens, ids, strict=True))] += 1
    return found


ENCODER_DECODER = ("encoder_input", "decoder_target")


def stream(of: datasets.DatasetConfig, converter: Any, count: int, shard: int = 0, shards: int = 1) -> Iterator[Any]:
    return datasets.get_dataset(of, shard, shards, converter).take(count).as_numpy_iterator()


def unpacked(of: datasets.DatasetConfig) -> datasets.DatasetConfig:
    return dataclasses.replace(of, pack=False, batch_size=of.examples_per_batch or 0)


@settings(max_examples=3)
@given(
    st.integers(0, 2**31), st.sampled_from(["tiny_noisy", "tiny_mixture", "tiny_thirteen"]), st.sampled_from([9, 12])
)
def test_a_batch_holds_the_next_examples_of_the_stream_whatever_the_seed(seed: int, task: str, rows: int):
    of = config(mixture_or_task_name=task, seed=seed, batch_size=rows)
    plain = stream(unpacked(of), seqio.EncDecFeatureConverter, 7)
    for packed, wanted in zip(stream(of, EncDec, 7), plain, strict=True):
        assert packed["encoder_input_tokens"].shape == (rows, ROWS["inputs"])
        found = examples(packed, ENCODER_DECODER)
        assert found.total() == 12 and found == examples(wanted, ENCODER_DECODER)
        unused = packed["decoder_segment_ids"].max(axis=1) == 0
        assert not any(values[unused].any() for values in packed.values())


def test_rows_of_decoder_only_students_too():
    for packed, wanted in zip(
        stream(config(), Chat, 5), stream(unpacked(config()), BestFitChatFeatureConverter, 5), strict=True
    ):
        kinds = ("decoder_input", "decoder_target")
        assert examples(packed, kinds) == examples(wanted, kinds)
        assert packed["decoder_loss_weights"].sum() == wanted["decoder_loss_weights"].sum()


def test_processes_together_have_the_examples_of_one():
    """A whole shuffle would divide one order; SeqIO's divides the examples before it shuffles."""
    of = config(shuffle=False, mixture_or_task_name="tiny_thirty_seven")
    parts = [stream(of, EncDec, 3, shard, 2) for shard in (0, 1)]
    for first, second, whole in zip(*parts, stream(of, EncDec, 3), strict=True):
        assert len(first["decoder_target_tokens"]) == 5
        found = [examples(batch, ENCODER_DECODER) for batch in (first, second)]
        assert [part.total() for part in found] == [6, 6]
        assert found[0] + found[1] == examples(whole, ENCODER_DECODER)


def test_an_evaluation_of_a_whole_split_has_every_example_once():
    of = config(split="validation", shuffle=False)
    found: Counter[Example] = Counter()
    for batch in datasets.get_whole_split_datasets(of, 0, 1, None, EncDec)["tiny_noisy"].as_numpy_iterator():
        found += examples(batch, ENCODER_DECODER)
    assert found.total() == 60


def of_checkpoint(directory: Path, converter: Any = EncDec, **settings: Any) -> position.TrainingData:
    data = position.TrainingData(config(**settings), 0, 1, converter, save_iterator=True)
    data.seek(epath.Path(directory))
    return data


def test_a_position_is_valid_for_any_number_and_length_of_rows(tmp_path: Path, caplog):
    """The state of tf.data's iterator, which has rows, is used only for equal rows."""
    data = position.TrainingData(config(), 0, 1, EncDec, save_iterator=True)
    whole = []
    for taken in range(6):
        if taken == 3:
            data.save(epath.Path(tmp_path))
        whole.append(examples(next(data), ENCODER_DECODER))
    longer = functools.partial(EncDec, row_lengths={"inputs": 30, "targets": 24})
    for converter, more in (
        (EncDec, {}),
        (longer, {"batch_size": 11}),
        (EncDec, {"pack": False, "batch_size": 12}),
    ):
        again = of_checkpoint(tmp_path, converter, **more)
        assert [examples(next(again), ENCODER_DECODER) for _ in range(3)] == whole[3:], more
    assert "FROM THE BEGINNING" not in caplog.text
    of_checkpoint(tmp_path, pack=False, examples_per_batch=10)
    assert "batch_size is exactly 10 examples and was exactly 12 examples; it starts FROM THE" in caplog.text


def test_as_many_rows_as_examples_are_replaced_by_enough(tmp_path: Path):
    data = position.TrainingData(config(batch_size=12), 0, 1, EncDec)
    enough = data.batch_size
    assert 5 < enough < 12
    for multiple in (2, 3, 12):
        rounded = position.TrainingData(config(batch_size=12), 0, 1, EncDec, rows_multiple=multiple)
        assert rounded.batch_size == -(-enough // multiple) * multiple
    for wanted in stream(unpacked(config()), seqio.EncDecFeatureConverter, 4):
        found = next(data)
        assert len(found["decoder_target_tokens"]) == enough
        assert examples(found, ENCODER_DECODER) == examples(wanted, ENCODER_DECODER)
    data.save(epath.Path(tmp_path))
    assert examples(next(of_checkpoint(tmp_path)), ENCODER_DECODER) == examples(next(data), ENCODER_DECODER)


def test_too_few_rows_are_an_error_at_the_start_which_names_enough():
    with pytest.raises(SettingError, match=r"\.batch_size: expected at least \d rows, so that any 12") as error:
        position.TrainingData(config(batch_size=5), 0, 1, EncDec)
    assert "found 5" in str(error.value) and "(the first 8 batches need " in str(error.value)
    enough = int(error.value.fix.partition("=")[2].partition(",")[0])
    assert 5 < enough <= 10


@pytest.mark.parametrize(
    ("settings", "converter", "message"),
    [
        ({"batch_size": 16}, EncDec, r"BATCH_SIZE: expected at most 12 rows, found 16, with .*examples_per_batch = 12"),
        ({"pack": False}, EncDec, r"BATCH_SIZE: expected 12 rows, because they are not packed, found 10, with"),
        ({"examples_per_batch": 0}, EncDec, r"examples_per_batch: expected a whole number of at least 1, found 0"),
        ({"examples_per_batch": 11}, EncDec, r"expected a multiple of 2, .*processes.*found 11(?s:.*)_batch=12, or"),
        ({}, seqio.EncDecFeatureConverter, r"expected a feature converter with the argument examples_per_batch"),
    ],
)
def test_settings_that_cannot_be(settings: dict[str, Any], converter: Any, message: str):
    with pytest.raises(SettingError, match=message):
        datasets.get_dataset(config(**settings), 0, 2, converter)


class _LongLater:
    """Short examples, and from the one with number ``start`` on long ones: what the check at the start cannot see."""

    def __init__(self, start: int) -> None:
        self._start = start

    def dataset(self, split: str, shuffle_files: bool, seed: int | None = None) -> tf.data.Dataset:
        del split, shuffle_files, seed
        size = lambda number: tf.where(number < self._start, 2, 5)  # noqa: E731
        numbers = tf.data.Dataset.range(self._start + 600)
        return numbers.map(lambda n: dict.fromkeys(LENGTHS, tf.repeat(tf.cast(n % 60 + 2, tf.int32), [size(n)])))


def test_a_batch_that_does_not_fit_ends_training_with_its_state_saved(tmp_path: Path, capfd: pytest.CaptureFixture):
    start = 24 * (exact_batches.CHECKED + 1)
    seqio.TaskRegistry.add(
        "long_later",
        source=seqio.FunctionDataSource(_LongLater(start).dataset, splits=("train",)),  # type: ignore[arg-type]
        preprocessors=[seqio.preprocessors.append_eos],
        output_features=tiny_tasks.FEATURES,
    )
    model = tiny_run.model(dropout_rate=0.0)
    model.FEATURE_CONVERTER_CLS = EncDec

    def run(name: str, **settings: Any) -> None:
        data = config(mixture_or_task_name="long_later", shuffle=False, examples_per_batch=24, **settings)
        tiny_run.run(tmp_path / name, exact_batches.CHECKED + 4, period=100, train_data=data, model=model)

    with pytest.raises(DataError) as error:
        run("stopped", batch_size=8)
    steps = exact_batches.CHECKED + 1
    assert str(error.value) == (
        f"batch {steps + 1} of the training data: expected 24 examples that fit into 8 rows, "
        "found examples that need 12\n"
        "  to fix it: the same command with --gin.train/utils.DatasetConfig.batch_size=13: "
        "it goes on with the same examples in the same order"
    )
    assert f"error in the training data: saved checkpoint_{steps}" in capfd.readouterr().err
    assert checkpoints.checkpoint_steps(tmp_path / "stopped") == [0, steps]
    run("stopped", batch_size=16)
    run("whole", batch_size=24, pack=False)
    found, wanted = (np.array(tiny_run.losses(tmp_path / name)) for name in ("stopped", "whole"))
    # The loss of a batch is that of the same examples without packing.
    np.testing.assert_allclose(found, wanted, rtol=2e-4)


PACKING = """
from __gin__ import dynamic_registration
from fsa_jax.data import packing
from t5x import models
models.EncoderDecoderModel.feature_converter_cls = @packing.BestFitEncDecFeatureConverter
"""


def test_the_gin_overlay_packs_the_batches_of_a_recipe(tmp_path: Path):
    (tmp_path / "packing.gin").write_text(PACKING)
    losses = {}
    for name, overlay in (
        ("padded", "--gin.train/utils.DatasetConfig.pack=False"),
        ("packed", "--gin_file=gin/shared/exact_batches.gin"),
    ):
        arguments = tiny_run.train_arguments(
            tmp_path / name,
            2,
            f"--gin_file={tmp_path}/packing.gin",
            overlay,
            "--gin.BATCH_SIZE=16",
            "--gin.DROPOUT_RATE=0.0",
            "--gin.train.train_eval_dataset_cfg=None",
        )
        run = tiny_run.command("t5x.train", *arguments)
        _, said = run.communicate(timeout=200)
        assert run.returncode == 0, said
        losses[name] = tiny_run.losses(tmp_path / name)
    assert "every batch has exactly 16 examples in 10 rows; the first 64 batches need 7.3 on average, 8 at most" in said
    saved = json.loads((tmp_path / "packed" / "checkpoint_2" / "dataset" / "train_ds-000-of-001.json").read_text())
    assert saved["batches"] == 2 and saved["batch_size"] == "exactly 16 examples"
    np.testing.assert_allclose(losses["packed"], losses["padded"], rtol=2e-4)
