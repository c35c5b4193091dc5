"""The best checkpoint of a run can be named, scored, used for prediction and exported."""

from __future__ import annotations

import json
import math
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Literal

import pytest

from fsa_base import runs
from fsa_base.errors import CheckpointError, SettingError
from fsa_base.runs import BestBy
from fsa_jax.cli.main import main

ROOT = Path(__file__).parents[2]
OLD = ROOT / "tests" / "testdata" / "v528859f"
F1 = "inference_eval/task/f1"


def make_run(directory: Path, steps: list[int], values: dict[int, object], best_by: BestBy | None = None) -> Path:
    """Creates a MODEL_DIR with empty checkpoints and values of F1."""
    for step in steps:
        (directory / f"checkpoint_{step}" / "state").mkdir(parents=True)
    file = directory / "inference_eval" / "task-metrics.jsonl"
    file.parent.mkdir(parents=True)
    file.write_text("".join(json.dumps({"step": step, "f1": value}) + "\n" for step, value in values.items()))
    if best_by is not None:
        runs.record_best_by(directory, best_by)
    return directory


def test_the_best_and_the_newest(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", [2, 4, 10], {2: 1.0, 4: 9.0, 10: 5.0}, BestBy(F1))
    assert runs.best_checkpoint(str(run)) == str(run / "checkpoint_4")
    assert runs.newest_checkpoint(str(run)) == str(run / "checkpoint_10")
    assert runs.best_checkpoint(str(run), mode="min") == str(run / "checkpoint_2")
    assert runs.resolve(Path(f"{run}@best")) == run / "checkpoint_4"
    assert runs.resolve(Path(f"{run}@newest")) == run / "checkpoint_10"
    assert runs.resolve(run / "checkpoint_2") == run / "checkpoint_2"


def test_of_equal_values_the_later_checkpoint_is_kept_and_chosen(tmp_path: Path) -> None:
    from t5x.checkpoints import OrbaxCheckpointManagerInterface, checkpoint_steps

    for mode in ("max", "min"):
        values: dict[int, object] = {2: 7.0, 4: 7.0, 6: 7.0, 8: 1.0 if mode == "max" else 9.0}
        run = make_run(tmp_path / mode, [2, 4, 6, 8], values, BestBy(F1, mode))
        assert runs.best_checkpoint(str(run)) == str(run / "checkpoint_6")
        manager = OrbaxCheckpointManagerInterface(str(run), keep=1, metric_name_to_monitor=F1, metric_mode=mode)
        assert manager.best_step() == 6
        manager.prune()
        assert checkpoint_steps(run) == [6, 8]
        assert runs.best_checkpoint(str(run)) == str(run / "checkpoint_6")


@pytest.mark.parametrize("mode", ["max", "min"])
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, "nan", "damaged", None, [1]])
def test_values_that_are_not_finite_are_never_best(tmp_path: Path, mode: Literal["max", "min"], bad: object) -> None:
    from t5x.checkpoints import OrbaxCheckpointManagerInterface, checkpoint_steps

    run = make_run(tmp_path, [2, 4, 6, 8], {2: bad, 4: 3.0, 6: bad, 8: bad}, BestBy(F1, mode))
    assert runs.best_checkpoint(str(run)) == str(run / "checkpoint_4")
    OrbaxCheckpointManagerInterface(str(run), keep=1, metric_name_to_monitor=F1, metric_mode=mode).prune()
    assert checkpoint_steps(run) == [4, 8]


def test_a_run_without_a_value_is_an_error(tmp_path: Path) -> None:
    run = make_run(tmp_path / "none", [2, 4], {2: 1.0})
    with pytest.raises(SettingError, match=r"keeps the best checkpoint by a metric.*found none") as error:
        runs.resolve(Path(f"{run}@best"))
    assert f"{run}@newest" in error.value.fix
    assert runs.best_checkpoint(str(run), metric=F1) == str(run / "checkpoint_2")
    unscored = make_run(tmp_path / "unscored", [2, 4], {3: 1.0, 4: math.nan}, BestBy(F1))
    with pytest.raises(
        CheckpointError, match="finite inference_eval/task/f1, found none among the checkpoints of steps 2, 4"
    ):
        runs.best_checkpoint(str(unscored))
    with pytest.raises(CheckpointError, match="found nothing"):
        runs.best_checkpoint(str(tmp_path / "absent"))
    with pytest.raises(SettingError, match="a metric of inference_eval: f1, found 'recall'"):
        runs.best_checkpoint(str(run), metric="inference_eval/task/recall")
    with pytest.raises(SettingError, match="'max' or 'min'"):
        runs.best_checkpoint(str(run), metric=F1, mode="best")


def test_a_message_names_a_better_value_without_a_checkpoint(tmp_path: Path, capsys) -> None:
    run = make_run(tmp_path, [4, 6], {2: 9.0, 4: 3.0, 6: 1.0}, BestBy(F1))
    assert runs.best_checkpoint(str(run)) == str(run / "checkpoint_4")
    assert "was best at step 2 (9), but that checkpoint does not exist" in capsys.readouterr().err


def test_a_model_dir_gives_its_newest_checkpoint_and_names_a_better_one(tmp_path: Path, capsys) -> None:
    run = make_run(tmp_path / "run", [4, 6], {4: 3.0, 6: 1.0}, BestBy(F1))
    assert runs.resolve(run) == run
    assert f"the best by {F1} is checkpoint_4: {run}@best" in capsys.readouterr().err
    (run / "best_by.json").write_text("[" * 100_000)
    assert runs.resolve(run) == run
    with pytest.raises(SettingError, match=r"best_by.json"):
        runs.resolve(Path(f"{run}@best"))


def test_an_existing_path_with_an_at_sign_is_used(tmp_path: Path) -> None:
    inner = make_run(tmp_path / "me@home" / "run", [2, 4], {2: 2.0, 4: 1.0}, BestBy(F1))
    assert runs.resolve(inner) == inner
    assert runs.resolve(Path(f"{inner}@best")) == inner / "checkpoint_2"
    literal = make_run(tmp_path / "me@home" / "run@best", [8], {})
    assert runs.resolve(literal) == literal
    assert runs.resolve(tmp_path / "model@v2") == tmp_path / "model@v2"
    assert runs.resolve(Path("@best")) == Path("@best")


def test_damaged_lines_of_metrics_files_are_skipped(tmp_path: Path) -> None:
    run = make_run(tmp_path, [2, 4], {2: 2.0, 4: 1.0}, BestBy(F1))
    with (run / "inference_eval" / "task-metrics.jsonl").open("ab") as file:
        file.write(
            b'\xff\xfe\n[1]\n{"step": "x", "f1": 9}\n' + b"[" * 100_000 + b'\n{"step": 2, "f1": 0.5}\n{"step": 4, "f'
        )
    assert runs.read_metrics(run, F1) == {2: 0.5, 4: 1.0}
    assert runs.best_checkpoint(str(run)) == str(run / "checkpoint_4")
    assert runs.scores_of(run / "checkpoint_2") == {"task": {"f1": 0.5}}
    assert runs.scores_of(run / "imported") == {}


def test_the_metric_is_read_from_upstreams_config_gin(tmp_path: Path) -> None:
    """The bindings are only parsed; nothing is imported or called."""
    config = tmp_path / "config.gin"
    config.write_text(
        "from __gin__ import dynamic_registration\nimport no.such.module\nBEST_BY = 'inference_eval/task/f1'\n"
        "utils.SaveCheckpointConfig.checkpoint_manager_cls = @checkpoints.BestCheckpointManager\n"
        "checkpoints.BestCheckpointManager:\n  metric_name_to_monitor = %BEST_BY\n  metric_mode = 'min'\n"
    )
    assert runs.recorded_best_by(tmp_path) == BestBy(F1, "min")
    config.write_text(config.read_text() + "other.Manager.metric_name_to_monitor = 'train/loss'\n")
    with pytest.raises(SettingError, match="one metric_name_to_monitor"):
        runs.recorded_best_by(tmp_path)
    config.write_text("a = [1,\n" + "(" * 5000)
    with pytest.raises(SettingError, match=r"config\.gin"):
        runs.recorded_best_by(tmp_path)
    config.write_text("trainer.x = 3\n")
    assert runs.recorded_best_by(tmp_path) is None


@pytest.fixture(scope="module")
def finetuned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a fine-tuned MODEL_DIR; checkpoint_20 is better than the newest, checkpoint_40."""
    folder = tmp_path_factory.mktemp("finetuned")
    for name in ("model_dir", "data", "spiece.model", "sentences.txt"):
        with tarfile.open(OLD / f"{name}.tar.xz") as archive:
            archive.extractall(folder, filter="data")
    metrics = folder / "model_dir" / "inference_eval" / "fsa_atsa_rest14-metrics.jsonl"
    metrics.write_text('{"step": 20, "f1": 5.0}\n{"step": 40, "f1": 1.0}\n')
    return folder


def test_eval_base_scores_the_best_checkpoint(finetuned: Path, tmp_path: Path) -> None:
    sizes = {"vocab_size": 384, "dtype": "float32", "emb_dim": 16, "num_heads": 2, "head_dim": 8, "mlp_dim": 32}
    sizes |= {"num_encoder_layers": 1, "num_decoder_layers": 1, "mlp_activations": ("gelu", "linear")}
    bindings = {f"network.T5Config.{name}": value for name, value in sizes.items()}
    bindings |= {"vocabulary.t5_vocabulary.model_rows": 384, "TASK_FEATURE_LENGTHS": {"inputs": 64, "targets": 8}}
    bindings |= {"MODEL_DIR": str(finetuned / "model_dir"), "EVAL_OUTPUT_DIR": str(tmp_path / "out"), "SPLIT": "hard"}
    command = [sys.executable, "-m", "t5x.eval", "--gin_file=gin/eval_base.gin"]
    environment = {
        "FSA_DATA_DIR": str(finetuned / "data"),
        "FSA_VOCAB": str(finetuned / "spiece.model"),
        "XLA_FLAGS": "",
    }
    run = subprocess.run(
        [*command, *(f"--gin.{name}={value!r}" for name, value in bindings.items())],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    assert f"evaluating {finetuned / 'model_dir' / 'checkpoint_20'} (step 20)" in run.stderr + run.stdout
    (metrics,) = (tmp_path / "out" / "inference_eval").glob("*-metrics.jsonl")
    assert [json.loads(line)["step"] for line in metrics.read_text().splitlines()] == [20]


def test_fsa_eval_scores_a_run_by_its_own_configuration(finetuned: Path) -> None:
    """The sizes of this run are those of no recipe; an earlier version wrote its config.gin."""
    model_dir = finetuned / "model_dir"
    options = ["--split", "hard", "--data", str(finetuned / "data"), "--vocabulary", str(finetuned / "spiece.model")]
    run = subprocess.run(
        [sys.executable, "-m", "fsa_jax.cli.main", "eval", str(model_dir), *options],
        cwd=ROOT,
        env={**os.environ, "XLA_FLAGS": ""},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    assert "t5x.eval --gin_file=gin/models/t5.gin --gin_file=gin/shared/eval.gin" in run.stderr
    assert run.stdout.splitlines()[0] == f"{model_dir / 'checkpoint_20'}, fsa_atsa_rest14, in percent:"
    assert [name for name in ("precision", "recall", "f1", "hard") if name not in run.stdout] == []
    assert list((model_dir / "hard" / "inference_eval").glob("fsa_atsa_rest14-*20.jsonl"))


def test_commands_take_the_best_checkpoint(finetuned: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("FSA_VOCAB", str(finetuned / "spiece.model"))
    sentences, model_dir = str(finetuned / "sentences.txt"), finetuned / "model_dir"
    outputs = {}
    for name in ("@best", "@newest"):
        output = tmp_path / f"{len(outputs)}.jsonl"
        options = ["--task", "rewriting", "--max_output_length", "4"]
        assert main(["predict", f"{model_dir}{name}", sentences, str(output), *options]) == 0
        outputs[name] = output.read_text()
    assert outputs["@best"] != outputs["@newest"]


def test_a_damaged_best_checkpoint_is_an_error_and_not_the_second_best(finetuned: Path, tmp_path: Path, capsys) -> None:
    model_dir = tmp_path / "model_dir"
    shutil.copytree(finetuned / "model_dir", model_dir)
    shutil.rmtree(model_dir / "checkpoint_20" / "state")
    output = tmp_path / "out.jsonl"
    assert main(["predict", f"{model_dir}@best", str(finetuned / "sentences.txt"), str(output)]) == 2
    assert "checkpoint_20" in capsys.readouterr().err and not output.exists()


def test_errors_of_a_choice_of_checkpoint_are_clear(finetuned: Path, tmp_path: Path, capsys) -> None:
    absent = f"{tmp_path / 'absent'}@best"
    assert main(["doctor", "--checkpoint", f"{finetuned / 'model_dir'}@best"]) == 0
    assert f"{finetuned / 'model_dir'}/checkpoint_20: not verified" in capsys.readouterr().out
    for command in ("export-ct2", "export-hf", "predict"):
        more = ["out.jsonl"] if command == "predict" else []
        assert main([command, absent, str(finetuned / "sentences.txt"), *more]) == 2
        assert "a run's MODEL_DIR with at least one checkpoint_<step>, found nothing" in capsys.readouterr().err
