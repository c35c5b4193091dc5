"""Every setting that takes one of a few words is checked when it is given."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import tiny_run

from fsa_base.errors import SettingError, require_choice
from fsa_base.networks.llama.config import LlamaConfig
from fsa_base.networks.t5.network import T5Config
from t5x import actions, checkpoints, infer, losses, partitioning, utils
from t5x.examples.decoder_only import network as decoder_only
from t5x.inference import evaluation

SIZES: dict[str, Any] = {"emb_dim": 8, "num_heads": 1, "num_kv_heads": 1, "num_layers": 1, "head_dim": 8, "mlp_dim": 8}


@pytest.mark.parametrize(
    ("attempt", "complaint"),
    [
        (
            lambda: utils.RestoreCheckpointConfig(path="x", mode="lastest"),  # pyright: ignore[reportArgumentType]
            "RestoreCheckpointConfig.mode: .*'latest'",
        ),
        (
            lambda: utils.RestoreCheckpointConfig(path="x", dtype="bfloat"),
            "RestoreCheckpointConfig.dtype: .*'bfloat16'",
        ),
        (lambda: utils.SaveCheckpointConfig(dtype="flaot32"), "SaveCheckpointConfig.dtype: .*near 'float32'"),
        (
            lambda: checkpoints.CheckpointManager("x", metric_mode="maximum"),  # pyright: ignore[reportArgumentType]
            r"metric_mode: expected 'max' or 'min'",
        ),
        (
            lambda: actions.EarlyStoppingAction(("a", "b"), "mx"),  # pyright: ignore[reportArgumentType]
            "EarlyStoppingAction.mode: .*near 'max'",
        ),
        (lambda: actions.Actions({"TRAIN_EVALS": []}, lambda: None), "train.actions: .*near 'TRAIN_EVAL'"),
        (
            lambda: losses.parse_loss_normalizer("NUM_REAL_TARGET"),
            "LOSS_NORMALIZING_FACTOR: .*'NUM_REAL_TARGET_TOKENS'",
        ),
        (lambda: utils.create_learning_rate_scheduler("constnat"), "factors: .*near 'constant'"),
        (lambda: partitioning.PjitPartitioner(1, backend="gpuu"), "PjitPartitioner.backend: .*found 'gpuu'"),
        (
            lambda: partitioning.PjitPartitioner(1, logical_axis_rules=[("batch", "date")]),
            "logical_axis_rules: expected 'data' or 'model', found 'date', which is near 'data'",
        ),
        (
            lambda: infer.create_task_from_tfexample_file([], "tfrecords", "inputs", None, {}),
            "file_type: .*near 'tfrecord'",
        ),
        (
            lambda: evaluation.scored_tasks(tiny_run.dataset(split="validaton")),
            "infer_eval/utils.DatasetConfig.split: .*found 'validaton', which is near 'validation'",
        ),
        (lambda: T5Config(vocab_size=8, dtype="flaot32"), "T5Config.dtype: .*near 'float32'"),
        (lambda: LlamaConfig(vocab_size=8, dtype="bf16", **SIZES), "LlamaConfig.dtype: .*found 'bf16'"),
        (lambda: decoder_only.TransformerConfig(8, "half"), "TransformerConfig.dtype: .*found 'half'"),
    ],
)
def test_a_misspelt_word_is_refused_with_the_choices(attempt: Callable[[], object], complaint: str) -> None:
    with pytest.raises(SettingError, match=complaint):
        attempt()


def test_the_error_names_the_choices_the_nearest_and_the_flag() -> None:
    with pytest.raises(SettingError) as error:
        require_choice("a.b", "Previuos", ("error", "previous"))
    assert str(error.value) == (
        "a.b: expected 'error' or 'previous', found 'Previuos', which is near 'previous'\n"
        "  to fix it: --gin.a.b=\"'previous'\""
    )
    require_choice("a.b", "error", ("error", "previous"))
