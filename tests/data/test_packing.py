"""Best-fit packing: the same examples in fewer rows."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
import seqio
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from fsa_base.errors import SettingError
from fsa_jax.data import packing
from fsa_jax.data.chat import ChatFeatureConverter

LENGTHS = {"inputs": 12, "targets": 20}
ROWS = {"inputs": 18, "targets": 30}


def examples_of(sizes: list[tuple[int, int]]) -> list[dict[str, list[int]]]:
    """Examples whose tokens tell their number: no two are equal."""
    return [
        {
            "inputs": [1000 * number + at for at in range(1, i + 1)],
            "targets": [1000 * number + at for at in range(1, t + 1)],
        }
        for number, (i, t) in enumerate(sizes, 1)
    ]


def dataset_of(examples: list[dict[str, list[int]]]) -> tf.data.Dataset:
    spec = {name: tf.TensorSpec([None], tf.int32) for name in LENGTHS}
    return tf.data.Dataset.from_generator(lambda: iter(examples), output_signature=spec)


def unpacked(row: Any, names: tuple[str, ...] = ("inputs", "targets")) -> list[tuple[tuple[int, ...], ...]]:
    """The examples of a packed row; checks their positions and the padding."""
    count = max(int(row[f"{name}_segment_ids"].max()) for name in names)
    found = []
    for name in names:
        used = row[f"{name}_segment_ids"] > 0
        assert not row[name][~used].any()
        assert not row[f"{name}_positions"][~used].any()
        assert used[: used.sum()].all()
    for segment in range(1, count + 1):
        parts = []
        for name in names:
            of = row[f"{name}_segment_ids"] == segment
            assert row[f"{name}_positions"][of].tolist() == list(range(of.sum()))
            parts.append(tuple(row[name][of].tolist()))
        found.append(tuple(parts))
    return found


def plain_best_fit(lengths: list[tuple[int, int]], room: tuple[int, ...]) -> list[int]:
    """Best-fit decreasing, written plainly."""
    share = [float(i / room[0] + t / room[1]) for i, t in lengths]
    rows: list[tuple[int, int, int]] = []
    places = {}
    for number in sorted(range(len(lengths)), key=lambda number: (-share[number], number)):
        i, t = lengths[number]
        fitting = [at for at, (_, left_i, left_t) in enumerate(rows) if left_i >= i and left_t >= t]
        if fitting:
            at = min(fitting, key=lambda at: ((rows[at][1] - i) / room[0] + (rows[at][2] - t) / room[1], at))
            longest, left_i, left_t = rows[at]
            rows[at] = (longest, left_i - i, left_t - t)
        else:
            at = len(rows)
            rows.append((number, room[0] - i, room[1] - t))
        places[number] = at
    ranks = {at: rank for rank, at in enumerate(sorted(range(len(rows)), key=lambda at: rows[at][0]))}
    return [ranks[places[number]] for number in range(len(lengths))]


sizes = st.lists(st.tuples(st.integers(0, 18), st.integers(0, 30)), min_size=1, max_size=40)


best_fit = tf.function(
    packing.best_fit, input_signature=[tf.TensorSpec([None, 2], tf.int32), tf.TensorSpec([2], tf.int32)]
)


@given(sizes)
def test_rows_are_those_of_a_plain_best_fit(lengths: list[tuple[int, int]]):
    room = tuple(ROWS.values())
    found = best_fit(tf.constant(lengths, tf.int32), tf.constant(room, tf.int32)).numpy().tolist()
    assert found == plain_best_fit(lengths, room)


@settings(max_examples=20)
@given(sizes, st.sampled_from([1, 7, 500]), st.sampled_from([(18, 30), (18, 45), (40, 200)]))
def test_packed_rows_hold_every_example_once(lengths: list[tuple[int, int]], window: int, room: tuple[int, int]):
    examples, row_lengths = examples_of(lengths), dict(zip(ROWS, room, strict=True))
    with mock.patch.object(packing, "WINDOW", window):
        rows = list(packing.packed(dataset_of(examples), row_lengths).as_numpy_iterator())
    found = Counter(example for row in rows for example in unpacked(row) if any(example))
    wanted = Counter((tuple(e["inputs"]), tuple(e["targets"])) for e in examples if e["inputs"] or e["targets"])
    assert found == wanted
    assert all(
        row[name].shape == (length,) and row[name].dtype == np.int32
        for row in rows
        for name, length in row_lengths.items()
    )


def test_longer_features_are_cut(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(packing, "WINDOW", 2)
    rows = list(packing.packed(dataset_of(examples_of([(25, 1), (1, 40), (3, 3)])), ROWS).as_numpy_iterator())
    assert [len(example[0]) for row in rows for example in unpacked(row)] == [18, 1, 3]
    assert [len(example[1]) for row in rows for example in unpacked(row)] == [1, 30, 3]


def real_lengths() -> list[tuple[int, int]]:
    """Drawn from the lengths of the 400 released reviews and responses in T5 pieces, cut at 128/400."""
    known = json.loads((Path(__file__).parents[1] / "testdata" / "teacher_lengths.json").read_text())
    return [tuple(known[at]) for at in np.random.default_rng(0).integers(len(known), size=2000)]


@pytest.mark.parametrize(("rows", "at_most"), [((128, 400), 0.71), ((208, 640), 0.41), ((256, 768), 0.34)], ids=str)
def test_rows_of_real_lengths_are_nearly_full(rows: tuple[int, int], at_most: float):
    lengths = real_lengths()
    count = 0
    for start in range(0, len(lengths), packing.WINDOW):
        window = tf.constant(lengths[start : start + packing.WINDOW], tf.int32)
        count += int(best_fit(window, tf.constant(rows, tf.int32)).numpy().max()) + 1
    assert count / len(lengths) <= at_most


def encoder_decoder(**arguments: Any) -> packing.BestFitEncDecFeatureConverter:
    return packing.BestFitEncDecFeatureConverter(**{"pack": True, **arguments})


def test_a_converter_packs_into_its_own_row_lengths():
    dataset = dataset_of(examples_of([(12, 20), (5, 9), (6, 10), (1, 1)]))
    rows = list(encoder_decoder(row_lengths=ROWS)(dataset, LENGTHS).as_numpy_iterator())
    assert len(rows) == 2
    assert {name: row.shape for name, row in rows[0].items()} == {
        **{f"encoder_{kind}": (18,) for kind in ("input_tokens", "segment_ids", "positions")},
        **{
            f"decoder_{kind}": (30,)
            for kind in ("input_tokens", "target_tokens", "loss_weights", "segment_ids", "positions")
        },
    }
    for row in rows:
        starts = np.flatnonzero((row["decoder_positions"] == 0) & (row["decoder_segment_ids"] > 0))
        assert not row["decoder_input_tokens"][starts].any(), "every example begins with id 0"
        assert row["decoder_loss_weights"].tolist() == (row["decoder_target_tokens"] > 0).astype(int).tolist()


def test_without_packing_it_is_seqios_converter():
    examples = examples_of([(12, 20), (5, 9)])
    ours = encoder_decoder(pack=False, row_lengths=ROWS)(dataset_of(examples), LENGTHS)
    theirs = seqio.EncDecFeatureConverter(pack=False)(dataset_of(examples), LENGTHS)
    for mine, other in zip(ours.as_numpy_iterator(), theirs.as_numpy_iterator(), strict=True):
        np.testing.assert_equal(mine, other)


@pytest.mark.parametrize("rows", [{"inputs": 12, "targets": 19}, {"targets": 20}])
def test_rows_that_are_too_short_are_an_error(rows: dict[str, int]):
    with pytest.raises(
        SettingError, match=r"(?s)ROW_LENGTHS: expected at least .*'targets': 20.*, found .*ROW_LENGTHS=None"
    ):
        encoder_decoder(row_lengths=rows)(dataset_of(examples_of([(1, 1)])), LENGTHS)


@pytest.mark.parametrize("rows", [640, "{'inputs': 208}"])
def test_row_lengths_of_another_type_are_an_error(rows: Any):
    with pytest.raises(SettingError, match="ROW_LENGTHS: expected a length for each feature, or None"):
        encoder_decoder(row_lengths=rows)


def test_seqios_own_packing_operations_are_refused():
    with pytest.raises(SettingError, match=r"use_custom_packing_ops: expected False"):
        encoder_decoder(use_custom_packing_ops=True)


def test_another_packing_has_another_description():
    described = [encoder_decoder(row_lengths=rows).packing for rows in (None, LENGTHS, ROWS)]
    assert len({*described, None}) == 4
    assert encoder_decoder(row_lengths=dict(reversed(ROWS.items()))).packing == described[2]
    assert encoder_decoder(row_lengths=ROWS, pack=False).packing is None


def test_features_of_a_known_length_are_packed_too():
    columns = {"inputs": np.arange(1, 37).reshape(6, 6), "targets": np.arange(1, 61).reshape(6, 10)}
    tensors: Any = {name: values.astype(np.int32) for name, values in columns.items()}
    dataset = tf.data.Dataset.from_tensor_slices(tensors)
    rows = packing.packed(dataset, ROWS)
    assert {name: spec.shape for name, spec in rows.element_spec.items() if name in ROWS} == {
        "inputs": 18,
        "targets": 30,
    }
    found = sorted(example for row in rows.as_numpy_iterator() for example in unpacked(row))
    assert found == [
        (tuple(i), tuple(t)) for i, t in zip(*(values.tolist() for values in columns.values()), strict=True)
    ]


def test_rows_of_decoder_only_students_hold_inputs_and_targets_together():
    examples = examples_of([(12, 20), (5, 9), (6, 10), (1, 2), (3, 4)])
    packed = packing.BestFitChatFeatureConverter(pack=True, row_lengths=ROWS)(dataset_of(examples), LENGTHS)
    single = ChatFeatureConverter(pack=False)(dataset_of(examples), LENGTHS)
    rows = list(packed.as_numpy_iterator())
    assert len(rows) == 2 and all(values.shape == (48,) for row in rows for values in row.values())
    columns = ("decoder_input_tokens", "decoder_target_tokens", "decoder_loss_weights", "decoder_causal_attention")
    found = [
        tuple(tuple(row[name][row["decoder_segment_ids"] == segment].tolist()) for name in columns)
        for row in rows
        for segment in range(1, row["decoder_segment_ids"].max() + 1)
    ]
    lengths = [len(example["inputs"]) + len(example["targets"]) - 1 for example in examples]
    wanted = [
        tuple(tuple(row[name][:length].tolist()) for name in columns)
        for row, length in zip(single.as_numpy_iterator(), lengths, strict=True)
    ]
    assert sorted(found) == sorted(wanted)


def test_the_state_of_the_pipeline_can_be_saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(packing, "WINDOW", 16)

    def rows() -> Any:
        numbers = tf.data.Dataset.range(40)
        spec = numbers.map(
            lambda n: {"inputs": tf.ones(n % 12 + 1, tf.int32), "targets": tf.ones(n % 20 + 1, tf.int32)}
        )
        return encoder_decoder(row_lengths=ROWS)(spec, LENGTHS)

    whole = list(rows().as_numpy_iterator())
    iterator = iter(rows())
    for _ in range(3):
        next(iterator)
    tf.train.Checkpoint(ds=iterator).write(str(tmp_path / "state"))
    again = iter(rows())
    tf.train.Checkpoint(ds=again).read(str(tmp_path / "state")).assert_consumed()
    assert len(whole) > 4
    for row, wanted in zip(again, whole[3:], strict=True):
        np.testing.assert_equal({name: value.numpy() for name, value in row.items()}, wanted)
