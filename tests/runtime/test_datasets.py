"""SeqIO datasets: batches, shards, and data that is not there."""

from __future__ import annotations

import numpy as np
import pytest
import seqio
import tiny_run

from fsa_base.errors import DataError, SettingError, VocabularyError
from t5x.data import datasets

CONVERTER = seqio.EncDecFeatureConverter


def _inputs(config, shard: int = 0, shards: int = 1, batches: int | None = None) -> list[np.ndarray]:
    dataset = datasets.get_dataset(config, shard, shards, CONVERTER, num_epochs=1)
    return [batch["encoder_input_tokens"] for batch in dataset.as_numpy_iterator()][:batches]


def test_packed_batches_have_segments_and_positions():
    dataset = datasets.get_dataset(tiny_run.dataset(), 0, 1, CONVERTER)
    batch = next(dataset.as_numpy_iterator())
    assert {value.shape for value in batch.values()} == {(8, 16)}
    assert {"encoder_segment_ids", "decoder_positions", "decoder_loss_weights"} <= batch.keys()
    assert batch["encoder_segment_ids"].max() > 1


def test_shards_are_disjoint_and_together_everything():
    config = tiny_run.dataset(mixture_or_task_name="tiny_reverse", pack=False, shuffle=False, batch_size=4)
    whole = np.concatenate(_inputs(config))
    parts = [np.concatenate(_inputs(config, shard, 2)) for shard in (0, 1)]
    assert [len(part) for part in parts] == [30, 30]
    assert sorted(map(tuple, np.concatenate(parts).tolist())) == sorted(map(tuple, whole.tolist()))


def test_a_seed_fixes_the_order_and_another_changes_it():
    first, again, other = (np.stack(_inputs(tiny_run.dataset(seed=seed, pack=False), batches=3)) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_runtime_preprocessors_see_the_model_s_features():
    config = tiny_run.dataset(
        runtime_preprocessors=[lambda dataset: dataset.map(lambda example: {**example, "extra": 1})]
    )
    batch = next(datasets.get_dataset(config, 0, 1, CONVERTER).as_numpy_iterator())
    assert batch["extra"].tolist() == [1] * 8


@pytest.mark.parametrize("name", ["tiny_empty", "tiny_nothing"])
def test_data_without_examples_is_an_immediate_error(name):
    with pytest.raises(DataError, match="expected at least one example, found none"):
        datasets.check(tiny_run.dataset(mixture_or_task_name=name))


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"mixture_or_task_name": "tiny_revers"}, SettingError, "such as tiny_reverse"),
        ({"module": "no_such_tasks"}, SettingError, "No module named 'no_such_tasks'"),
        ({"split": "dev"}, DataError, "expected a split 'dev', found the splits 'train', 'validation', 'test'"),
        ({"use_cached": True}, DataError, "USE_CACHED_TASKS=False"),
        ({"task_feature_lengths": {"inputs": 8}}, SettingError, "add 'targets' to TASK_FEATURE_LENGTHS"),
    ],
)
def test_impossible_settings_are_errors(settings, error, message):
    with pytest.raises(error, match=message):
        datasets.check(tiny_run.dataset(**settings))


def test_a_batch_that_does_not_split_evenly_is_an_error():
    with pytest.raises(SettingError, match="expected a multiple of 3"):
        datasets.get_dataset(tiny_run.dataset(), 0, 3, CONVERTER)


def test_train_eval_datasets_are_those_of_the_tasks_and_of_the_mixture():
    config = tiny_run.dataset(mixture_or_task_name="tiny_mixture", split="validation")
    found = datasets.get_training_eval_datasets(config, 0, 1, 3, CONVERTER)
    assert found.keys() == {"tiny_reverse", "tiny_noisy", "tiny_mixture"}
    for dataset in found.values():
        first, second = ([batch["encoder_input_tokens"] for batch in dataset.as_numpy_iterator()] for _ in range(2))
        assert len(first) == 3
        np.testing.assert_array_equal(first, second)


def test_a_model_with_another_vocabulary_is_refused():
    model = tiny_run.model()
    datasets.verify_matching_vocabs(tiny_run.dataset(), model)
    model.output_vocabulary = seqio.ByteVocabulary()
    with pytest.raises(VocabularyError, match="task tiny_noisy, targets"):
        datasets.verify_matching_vocabs(tiny_run.dataset(), model)
