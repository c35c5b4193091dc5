"""A run that is stopped anywhere goes on as if it had not been: same losses, bit for bit."""

from __future__ import annotations

import functools
import json
import os
import shutil
import signal
import sys
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import pytest
import tiny_run
from etils import epath

from fsa_base.errors import DamagedCheckpointError
from t5x import actions, checkpoints, trainer
from t5x.checkpointing.config import RestoreCheckpointConfig
from t5x.data import position
from t5x.hooks import metrics


class _Terminate(actions.BaseAction):
    """Sends SIGTERM to this process once, at the first metrics that come at a step or after it."""

    def __init__(self, step: int) -> None:
        self._step = step

    def run(self, train_state, metrics_by_task) -> bool:
        if int(train_state.step) >= self._step:
            self._step = sys.maxsize
            os.kill(os.getpid(), signal.SIGTERM)
        return False


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory) -> Path:
    directory = tmp_path_factory.mktemp("uninterrupted")
    tiny_run.run(directory, 10)
    return directory


def test_sigterm_saves_state_and_position_and_the_next_start_continues(tmp_path, uninterrupted, capfd):
    step, _ = tiny_run.run(tmp_path, 10, actions={"TRAIN": [_Terminate(6)]})
    assert 6 <= step < 10
    assert f"SIGTERM: saved checkpoint_{step} with its position in the data" in capfd.readouterr().err
    assert checkpoints.checkpoint_steps(tmp_path) == [0, 4, step]
    assert tiny_run.losses(tmp_path) == tiny_run.losses(uninterrupted)[:step]
    tiny_run.run(tmp_path, 10)
    assert tiny_run.losses(tmp_path) == tiny_run.losses(uninterrupted)


def test_tf_data_s_own_state_gives_the_same_position(tmp_path, uninterrupted):
    save = {"save_dataset": True}
    tiny_run.run(tmp_path, 4, save=save)
    assert list((tmp_path / "checkpoint_4" / "dataset").glob("train_ds-000-of-001.index"))
    tiny_run.run(tmp_path, 10, save=save)
    assert tiny_run.losses(tmp_path) == tiny_run.losses(uninterrupted)


@pytest.mark.parametrize("suffix", [".json", ".index", ".data-00000-of-00001"])
def test_a_truncated_position_means_a_damaged_checkpoint_and_data_from_the_beginning(tmp_path, suffix):
    """Errors of json and TensorFlow were tracebacks, among them a bare IndexError."""
    data = position.TrainingData(tiny_run.dataset(), 0, 1, tiny_run.model().FEATURE_CONVERTER_CLS, save_iterator=True)
    first = next(data)
    next(data)
    data.save(epath.Path(tmp_path))
    file = tmp_path / f"train_ds-000-of-001{suffix}"
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    with pytest.raises(DamagedCheckpointError):
        data.seek(epath.Path(tmp_path))
    again = next(data)
    assert all((again[name] == value).all() for name, value in first.items())


def test_without_a_seed_the_recorded_one_is_used(tmp_path):
    data = tiny_run.dataset(seed=None)
    tiny_run.run(tmp_path / "whole", 6, period=2, train_data=data)
    seed = _position(tmp_path / "whole" / "checkpoint_2")["seed"]
    tiny_run.run(tmp_path / "parts", 6, period=2, train_data=tiny_run.dataset(seed=seed))
    assert tiny_run.losses(tmp_path / "whole") == tiny_run.losses(tmp_path / "parts")
    for step in (4, 6):
        (tmp_path / "whole" / f"checkpoint_{step}").rename(tmp_path / f"checkpoint_{step}")
    tiny_run.run(tmp_path / "whole", 6, period=2, train_data=data)
    assert tiny_run.losses(tmp_path / "whole") == tiny_run.losses(tmp_path / "parts")


def test_with_another_batch_size_the_data_starts_from_the_beginning_with_a_message(tmp_path, caplog):
    tiny_run.run(tmp_path, 2, period=2)
    tiny_run.run(tmp_path, 4, period=2, train_data=tiny_run.dataset(batch_size=16))
    assert _position(tmp_path / "checkpoint_4")["batches"] == 2
    assert any("starts FROM THE BEGINNING" in record.getMessage() for record in caplog.records)


def test_with_another_packing_the_data_starts_from_the_beginning_with_a_message(tmp_path, caplog):
    import seqio

    class Converter(seqio.EncDecFeatureConverter):
        packing = "two examples in a row"

    def of(converter, directory=None):
        data = position.TrainingData(tiny_run.dataset(), 0, 1, converter)
        if directory is not None:
            data.seek(epath.Path(directory))
        return data

    for name, converter in (("seqio", seqio.EncDecFeatureConverter), ("ours", Converter)):
        data = of(converter)
        next(data)
        (tmp_path / name).mkdir()
        data.save(epath.Path(tmp_path / name))
    assert of(seqio.EncDecFeatureConverter, tmp_path / "seqio").taken == 1
    assert of(Converter, tmp_path / "ours").taken == 1
    assert not any("pack is" in record.getMessage() for record in caplog.records)
    assert of(Converter, tmp_path / "seqio").taken == of(seqio.EncDecFeatureConverter, tmp_path / "ours").taken == 0
    said = [line for line in (record.getMessage() for record in caplog.records) if "pack is" in line]
    assert len(said) == 2 and all("starts FROM THE BEGINNING" in line for line in said)


def _position(checkpoint: Path) -> dict:
    return json.loads((checkpoint / "dataset" / "train_ds-000-of-001.json").read_text())


def test_a_completed_run_does_nothing_and_one_past_its_end_is_an_error(tmp_path, uninterrupted):
    before = tiny_run.losses(uninterrupted)
    assert tiny_run.run(uninterrupted, 10)[0] == 10
    assert tiny_run.losses(uninterrupted) == before
    with pytest.raises(Exception, match="TRAIN_STEPS: expected at least 10"):
        tiny_run.run(uninterrupted, 5)


def test_metrics_of_a_run_whose_checkpoints_were_deleted_do_not_count_for_the_next_run(tmp_path, capfd):
    """They decided which of the new checkpoints was the best."""
    settings: dict[str, Any] = {"period": 2, "train_eval_dataset_cfg": tiny_run.dataset(split="validation")}
    tiny_run.run(tmp_path, 4, **settings)
    old = tiny_run.rows(tmp_path)
    for step in checkpoints.checkpoint_steps(tmp_path):
        shutil.rmtree(tmp_path / f"checkpoint_{step}")
    capfd.readouterr()
    tiny_run.run(tmp_path, 2, **settings)
    assert _evaluated(tmp_path) == [2] and [row["step"] for row in tiny_run.rows(tmp_path)] == [1, 2]
    kept = (tmp_path / "train" / "metrics.jsonl.old").read_text().splitlines()
    assert [json.loads(line) for line in kept] == old
    assert "metrics.jsonl.old" in capfd.readouterr().err


def test_relative_steps_extend_every_start(tmp_path):
    assert tiny_run.run(tmp_path, 0, period=2, relative_steps=2)[0] == 2
    assert tiny_run.run(tmp_path, 0, period=2, relative_steps=2)[0] == 4


def test_periods_count_from_the_beginning_of_model_dir_also_below_the_working_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tiny_run.run(Path("runs/a"), 2, period=2)
    tiny_run.run(Path("runs/a"), 7, period=3)
    assert checkpoints.checkpoint_steps("runs/a") == checkpoints.checkpoint_steps(tmp_path / "runs/a")
    assert checkpoints.checkpoint_steps("runs/a") == [0, 2, 3, 6, 7]


def test_preempted_runs_save_and_evaluate_at_the_same_steps_as_others(tmp_path):
    """Fine-tuning that began at step 3 with a period of 4: the grid is 3, 7, 11, 15."""
    tiny_run.run(tmp_path / "start", 3)
    settings: dict[str, Any] = {
        "train_eval_dataset_cfg": tiny_run.dataset(split="validation"),
        "restore": RestoreCheckpointConfig(path=str(tmp_path / "start")),
        "run_eval_before_training": True,
    }
    tiny_run.run(tmp_path / "whole", 16, **settings)
    assert checkpoints.checkpoint_steps(tmp_path / "whole") == _evaluated(tmp_path / "whole") == [3, 7, 11, 15, 16]
    for step in (5, 9, 13):
        stopped, _ = tiny_run.run(tmp_path / "cut", 16, actions={"TRAIN": [_Terminate(step)]}, **settings)
        assert stopped == step
        steps = checkpoints.checkpoint_steps(tmp_path / "cut")
        assert steps == [*[at for at in (3, 7, 11, 15) if at < stopped], stopped]
    tiny_run.run(tmp_path / "cut", 16, **settings)
    assert checkpoints.checkpoint_steps(tmp_path / "cut") == _evaluated(tmp_path / "cut") == [3, 7, 11, 15, 16]
    assert tiny_run.losses(tmp_path / "cut") == tiny_run.losses(tmp_path / "whole")


def test_checkpoints_of_preemption_are_pruned_also_where_a_metric_decides_what_is_kept(tmp_path):
    """They have no score, and were kept for ever."""
    manager = functools.partial(
        checkpoints.OrbaxCheckpointManagerInterface,
        metric_name_to_monitor="training_eval/tiny_noisy/accuracy",
        force_keep_period=3,
    )
    settings: dict[str, Any] = {
        "train_eval_dataset_cfg": tiny_run.dataset(split="validation"),
        "save": {"keep": 1, "checkpoint_manager_cls": manager, "checkpoint_steps": [7]},
    }
    stops = []
    for step in (2, 5, 9):
        stops.append(tiny_run.run(tmp_path, 12, actions={"TRAIN": [_Terminate(step)]}, **settings)[0])
    tiny_run.run(tmp_path, 12, **settings)
    steps = checkpoints.checkpoint_steps(tmp_path)
    # 7 was asked for, and has no score either; a preemption's checkpoint stays only where force_keep_period asks.
    assert {0, 7, 12} <= set(steps)
    assert [step for step in steps if step in stops] == [step for step in stops if step % 3 == 0]


def test_an_interrupted_evaluation_is_repeated(tmp_path):
    """On the grid of a MODEL_DIR that did not begin at a multiple of the period."""
    tiny_run.run(tmp_path / "start", 3)
    settings: dict[str, Any] = {
        "train_eval_dataset_cfg": tiny_run.dataset(split="validation"),
        "restore": RestoreCheckpointConfig(path=str(tmp_path / "start")),
    }
    run = tmp_path / "run"
    tiny_run.run(run, 7, **settings)
    file = run / "training_eval" / "tiny_noisy" / "metrics.jsonl"
    file.write_text('{"step": 7, "acc')  # what a kill leaves of the row
    tiny_run.run(run, 9, **settings)
    assert _evaluated(run) == [7, 9]


def test_an_evaluation_of_decoded_text_is_complete_when_every_task_has_its_row(tmp_path):
    """SeqIO writes them task by task, and a kill may come between."""
    (tmp_path / "inference_eval").mkdir()
    nothing: Any = None
    evaluation = metrics.InferenceEvaluation(
        nothing, ["one", "two"], nothing, str(tmp_path), nothing, nothing, nothing, concurrent=True
    )
    (tmp_path / "inference_eval" / "one-metrics.jsonl").write_text('{"step": 4, "f1": 1}\n')
    assert not evaluation.done(4)
    (tmp_path / "inference_eval" / "two-metrics.jsonl").write_text('{"step": 2, "f1": 1}\n{"step": 4, "f1": 1}\n')
    assert evaluation.done(4) and not evaluation.done(2)


@pytest.fixture(scope="module")
def begun_at_3(tmp_path_factory) -> Path:
    """A folder with ``run``, which began at step 3 of ``start`` and has step 8 alone."""
    folder = tmp_path_factory.mktemp("begun_at_3")
    tiny_run.run(folder / "start", 3)
    tiny_run.run(folder / "run", 8, save={"keep": 1}, restore=RestoreCheckpointConfig(path=str(folder / "start")))
    assert checkpoints.checkpoint_steps(folder / "run") == [8]
    return folder


@pytest.mark.parametrize("record", [None, "", "\udc80 12", "400"])
def test_a_missing_or_damaged_record_of_the_first_step_is_written_again(tmp_path, begun_at_3, record):
    """MODEL_DIRs of older versions have none, and may have lost their first checkpoint."""
    run = tmp_path / "run"
    shutil.copytree(begun_at_3 / "run", run)
    file = run / "began_at_step.txt"
    file.unlink() if record is None else file.write_bytes(record.encode(errors="surrogateescape"))
    tiny_run.run(run, 12, restore=RestoreCheckpointConfig(path=str(begun_at_3 / "start")))
    assert checkpoints.checkpoint_steps(run) == [8, 11, 12]
    assert file.read_text() == "3\n"


def _evaluated(model_dir: Path) -> list[int]:
    lines = (model_dir / "training_eval" / "tiny_noisy" / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line)["step"] for line in lines]


def test_sigkill_anywhere_loses_nothing(tmp_path):
    reference, killed = tmp_path / "reference", tmp_path / "killed"
    keep = "--gin.utils.SaveCheckpointConfig.keep=2"
    errors = _run("t5x.train", tiny_run.train_arguments(reference, 12, keep))
    assert len(errors.splitlines()) <= 40, errors
    steps_after: dict[str, list[int]] = {
        "compiling": [],
        "writing 4": [0],
        "in flight 4": [0],
        "committing 8": [0, 4],
        "committed 8": [0, 4, 8],
    }
    arguments = tiny_run.train_arguments(killed, 12, keep)
    for moment, steps in steps_after.items():
        _run("kill_at", [moment, *arguments], status=-signal.SIGKILL)
        assert checkpoints.checkpoint_steps(killed) == steps, moment
    _run("t5x.train", arguments)
    assert [step for step, _ in tiny_run.losses(killed)] == list(range(1, 13))
    assert tiny_run.losses(killed) == tiny_run.losses(reference)
    assert checkpoints.checkpoint_steps(killed) == checkpoints.checkpoint_steps(reference) == [8, 12]
    assert not list(killed.glob("*.tmp-*"))


def _run(module: str, arguments: list[str], status: int = 0) -> str:
    process = tiny_run.command(module, *arguments)
    errors = process.communicate(timeout=600)[1]
    assert process.returncode == status, errors
    return errors


def test_actions_stop_a_run(tmp_path):
    stop = actions.EarlyStoppingAction(("train", "learning_rate"), "max", patience=3)
    step, _ = tiny_run.run(tmp_path, 10, actions={actions.ActionMode.TRAIN: [stop]})
    assert step < 10
    assert checkpoints.checkpoint_steps(tmp_path)[-1] == step
    nan = actions.TerminateOnNanAction("train")
    assert not nan.run(None, {"train": {"loss": 1.0}})
    assert nan.run(None, {"train": {"loss": float("nan")}})


def test_a_nan_loss_is_reported_once(tmp_path, capfd):
    broken = functools.partial(
        trainer.Trainer, learning_rate_fn=lambda step: jnp.full((), jnp.nan), num_microbatches=None
    )
    tiny_run.run(tmp_path, 4, trainer_cls=broken)
    told = [line for line in capfd.readouterr().err.splitlines() if "the loss is nan" in line]
    assert len(told) == 1 and "earlier checkpoint" in told[0]


def test_skipping_many_batches_shows_progress(tmp_path, capfd, monkeypatch):
    tiny_run.run(tmp_path, 4)
    tiny_run.run(tmp_path, 5)
    assert "skipping batch" not in capfd.readouterr().err
    monkeypatch.setattr(position, "_PATIENCE", 0.0)
    tiny_run.run(tmp_path, 6)
    assert "skipping batch 5/5" in capfd.readouterr().err


@pytest.mark.parametrize("use_cached", [False, True])
def test_training_on_a_task_with_an_unknown_number_of_rows(use_cached):
    """A cache without statistics, a part of a split."""

    class Task:
        def num_input_examples(self, split: str) -> int:
            return {"train": 1}[split]

        def get_cached_stats(self, split: str) -> dict[str, int]:
            raise ValueError(f"Stats do not exist for {split}")

    config = tiny_run.dataset(split="train[:5]", use_cached=use_cached)
    task: Any = Task()
    assert position._rows(task, config) is None
