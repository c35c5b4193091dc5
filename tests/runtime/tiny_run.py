"""Training a tiny T5 on tests/runtime/tiny_tasks.py, in this process or by the command."""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tiny_tasks

from t5x import adafactor, models, partitioning, trainer, utils
from t5x.examples.t5 import network
from t5x.train import train

ROOT = Path(__file__).parents[2]
LENGTHS = {"inputs": 16, "targets": 16}


def model(**config: Any) -> models.EncoderDecoderModel:
    """A T5 of 8,000 parameters with dropout."""
    shape = {
        "vocab_size": 64,
        "emb_dim": 16,
        "num_heads": 2,
        "head_dim": 8,
        "mlp_dim": 32,
        "num_encoder_layers": 1,
        "num_decoder_layers": 1,
        "mlp_activations": ("gelu", "linear"),
        "dropout_rate": 0.1,
    }
    return models.EncoderDecoderModel(
        module=network.Transformer(config=network.T5Config(**{**shape, **config})),
        input_vocabulary=tiny_tasks.VOCABULARY,
        output_vocabulary=tiny_tasks.VOCABULARY,
        optimizer_def=adafactor.Adafactor(logical_factor_rules=adafactor.standard_logical_factor_rules()),
    )


def dataset(**settings: Any) -> utils.DatasetConfig:
    """The noisy task, packed and shuffled."""
    defaults: dict[str, Any] = {
        "mixture_or_task_name": "tiny_noisy",
        "task_feature_lengths": LENGTHS,
        "split": "train",
        "batch_size": 8,
        "shuffle": True,
        "seed": 3,
        "pack": True,
    }
    return utils.DatasetConfig(**{**defaults, **settings})


def run(model_dir: Path, steps: int, **settings: Any) -> tuple[int, Any]:
    """Trains to ``steps`` with a row of metrics at every step."""
    return train(**arguments(model_dir, steps, **settings))


def arguments(
    model_dir: Path,
    steps: int,
    period: int = 4,
    save: dict[str, Any] | None = None,
    restore: utils.RestoreCheckpointConfig | None = None,
    train_data: utils.DatasetConfig | None = None,
    **others: Any,
) -> dict[str, Any]:
    """Arguments of ``train`` for a run to ``steps`` with a row of metrics at every step."""
    defaults: dict[str, Any] = {
        "model": model(),
        "train_dataset_cfg": train_data or dataset(),
        "train_eval_dataset_cfg": None,
        "infer_eval_dataset_cfg": None,
        "checkpoint_cfg": utils.CheckpointConfig(
            save=utils.SaveCheckpointConfig(period=period, **(save or {})), restore=restore
        ),
        "partitioner": partitioning.PjitPartitioner(num_partitions=1),
        "trainer_cls": functools.partial(
            trainer.Trainer,
            learning_rate_fn=utils.create_learning_rate_scheduler(factors="constant", base_learning_rate=0.01),
            num_microbatches=None,
        ),
        "model_dir": str(model_dir),
        "total_steps": steps,
        "eval_steps": 1,
        "eval_period": period,
        "stats_period": 1,
        "random_seed": 0,
        "summarize_config_fn": lambda directory, writer, step: None,
    }
    return {**defaults, **others}


def rows(model_dir: Path) -> list[dict[str, Any]]:
    """The rows of training metrics."""
    return [json.loads(line) for line in (model_dir / "train" / "metrics.jsonl").read_text().splitlines()]


def losses(model_dir: Path) -> list[tuple[int, float]]:
    """(step, loss) of every row of training metrics."""
    return [(row["step"], row["loss"]) for row in rows(model_dir)]


def command(
    module: str, *arguments: str, devices: int = 1, variables: Mapping[str, str] | None = None, **popen: Any
) -> subprocess.Popen:
    """Starts ``python -m <module>`` with its standard error piped, or where ``popen`` says."""
    environment = {
        **os.environ,
        **(variables or {}),
        "PYTHONPATH": os.pathsep.join(filter(None, [str(Path(__file__).parent), os.environ.get("PYTHONPATH")])),
        "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}",
    }
    return subprocess.Popen(
        [sys.executable, "-m", module, *arguments],
        cwd=ROOT,
        env=environment,
        **{"stderr": subprocess.PIPE, "text": True, **popen},
    )


def train_arguments(model_dir: Path, steps: int, *more: str) -> list[str]:
    """Arguments of ``t5x.train`` for the same run as :func:`run`'s, by gin."""
    return [
        "--gin_file=t5x/configs/runs/pretrain.gin",
        "--gin_file=tests/runtime/tiny_t5.gin",
        f"--gin.MODEL_DIR='{model_dir}'",
        f"--gin.TRAIN_STEPS={steps}",
        "--gin.TASK_FEATURE_LENGTHS={'inputs': 16, 'targets': 16}",
        "--gin.BATCH_SIZE=8",
        "--gin.USE_CACHED_TASKS=False",
        "--gin.RANDOM_SEED=0",
        "--gin.train/utils.DatasetConfig.seed=3",
        "--gin.train.eval_period=4",
        "--gin.train.eval_steps=1",
        "--gin.train.stats_period=1",
        "--gin.utils.SaveCheckpointConfig.period=4",
        *more,
    ]
