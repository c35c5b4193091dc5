"""Several seeds with one recipe compute what each computes alone, in groups of any size, also after a stop."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_run

from fsa_base import checkpoint_files
from t5x import partitioning, train_seeds

SEEDS = (3, 11)
EVALUATED = {"mixture_or_task_name": "tiny_noisy", "split": "validation", "batch_size": 16, "pack": False}


def train(model_dir: Path, seeds: tuple[int, ...], together: int = 1, **settings: Any) -> None:
    arguments = tiny_run.arguments(model_dir, 8, period=4, partitioner=partitioning.PjitPartitioner(num_partitions=2))
    evaluated = tiny_run.dataset(**EVALUATED, shuffle=False)
    train_seeds.train(
        **{**arguments, "infer_eval_dataset_cfg": evaluated, "score": "first_token", **settings},
        seeds=seeds,
        together=together,
    )


def result(model_dir: Path, seed: int) -> dict[str, Any]:
    return json.loads((train_seeds.seed_directory(model_dir, seed) / train_seeds.RESULT).read_text())


def losses(model_dir: Path, seed: int) -> list[float]:
    return result(model_dir, seed)["losses"]


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("alone")
    train(directory, (*SEEDS, 20, 21))
    return directory


def test_a_seed_computes_what_t5x_train_computes(alone: Path, tmp_path: Path):
    data = tiny_run.dataset(seed=SEEDS[0])
    tiny_run.run(tmp_path, 8, train_data=data, random_seed=SEEDS[0])
    expected = [row["cross_ent_loss"] for row in tiny_run.rows(tmp_path)]
    np.testing.assert_allclose(losses(alone, SEEDS[0]), expected, rtol=1e-6)


def test_seeds_differ_and_have_their_scores_and_best_weights(alone: Path):
    first, second = (result(alone, seed) for seed in SEEDS)
    assert first["losses"] != second["losses"]
    for found in (first, second):
        assert len(found["losses"]) == 8
        assert len(found["scores"]) == 2
        assert found["scores"][found["best_epoch"] - 1] == max(found["scores"])
        directory = train_seeds.seed_directory(alone, found["seed"])
        assert checkpoint_files.checkpoint_steps(directory) == [4 * found["best_epoch"]]
        rows = [json.loads(line) for line in (directory / "inference_eval" / "tiny_noisy-metrics.jsonl").open()]
        assert [row["first_token"] for row in rows] == found["scores"]
    assert not list(alone.glob("group-*"))


@pytest.mark.parametrize("count", [2, 4])
def test_a_group_computes_what_its_seeds_compute_alone(alone: Path, tmp_path: Path, count: int):
    """4 seeds are spread over the 4 groups of devices; 2 seeds split their batches over them."""
    seeds = (*SEEDS, 20, 21)[:count]
    train(tmp_path, seeds, together=count)
    for seed in seeds:
        np.testing.assert_allclose(losses(tmp_path, seed), losses(alone, seed), rtol=1e-5)
        assert result(tmp_path, seed)["scores"] == result(alone, seed)["scores"]
        assert result(tmp_path, seed)["together"] == list(seeds)


@pytest.mark.parametrize("calls", [1, 4])
def test_a_stopped_group_continues_with_the_same_numbers(
    alone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, calls: int
):
    """Stopped while the ``calls``-th pair of seed and epoch is scored; the second epoch begins with the third."""
    score = train_seeds._Scorer.score
    made = iter(range(1, 100))

    def stopping(self: Any, *arguments: Any) -> float:
        if next(made) == calls:
            raise InterruptedError
        return score(self, *arguments)

    with monkeypatch.context() as patch, pytest.raises(InterruptedError):
        patch.setattr(train_seeds._Scorer, "score", stopping)
        train(tmp_path, SEEDS, together=2)
    train(tmp_path, SEEDS, together=2)
    for seed in SEEDS:
        np.testing.assert_allclose(losses(tmp_path, seed), losses(alone, seed), rtol=1e-5)
        assert result(tmp_path, seed)["scores"] == result(alone, seed)["scores"]
        assert (
            len(
                (train_seeds.seed_directory(tmp_path, seed) / "inference_eval" / "tiny_noisy-metrics.jsonl")
                .read_text()
                .splitlines()
            )
            == 2
        )


def test_a_group_that_has_begun_is_continued_as_it_was(tmp_path: Path):
    (tmp_path / "group-3_11").mkdir()
    for seed in (3, 20):  # the group's directory is deleted after the results of all its seeds are written
        directory = train_seeds.seed_directory(tmp_path, seed)
        directory.mkdir()
        (directory / train_seeds.RESULT).write_text("{}")
    assert train_seeds._groups(str(tmp_path), (3, 11, 20, 21, 22, 23), 2) == [(3, 11), (21, 22), (23,)]
    assert train_seeds._groups(str(tmp_path), (11,), 1) == [(3, 11)]
    assert train_seeds._groups(str(tmp_path), (20,), 1) == []
    (tmp_path / "ended-group-20").mkdir()
    assert train_seeds._groups(str(tmp_path), (20,), 1) == []
    assert not (tmp_path / "ended-group-20").exists()


def test_ended_seeds_are_not_trained_again(alone: Path):
    file = train_seeds.seed_directory(alone, SEEDS[0]) / train_seeds.RESULT
    before = file.stat().st_mtime_ns
    train(alone, SEEDS)
    assert file.stat().st_mtime_ns == before


def test_the_speed_of_groups_is_measured(tmp_path: Path):
    train(tmp_path, SEEDS, measure=(1, 2))
    found = json.loads((tmp_path / "measured.json").read_text())
    assert [entry["together"] for entry in found] == [1, 2]
    assert all(entry["seconds"] > 0 and entry["bytes"] > 0 for entry in found)
    assert found[1]["bytes"] > found[0]["bytes"]
