"""Decoder-only students are imported, distilled, fine-tuned and served, each step with its command."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from hf_models import write_model

from fsa_jax.cli import main as cli
from fsa_jax.synthetic.files import generate
from fsa_jax.synthetic.oracle import Oracle
from fsa_jax.synthetic.world import SplitSizes
from fsa_jax.weights.weight_checkpoints import find_checkpoint, load_weights
from tests.parity.small_models import write_tokenizer

ROOT = Path(__file__).parents[1]
SHAPE = {
    "vocab_size": 320,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "tie_word_embeddings": True,
}
SCALING = {"factor": 32.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 64}
MODELS = {
    "llama": {**SHAPE, "model_type": "llama", "rope_scaling": {"rope_type": "llama3", **SCALING}},
    "qwen": {**SHAPE, "model_type": "qwen2", "rope_theta": 1000000.0},
}
LENGTHS = "{'inputs': 192, 'targets': 192}"


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("data")
    generate(root, 0, 40, SplitSizes(train=12, dev=4, test=4, hard_test=4), Oracle(0, 0.05, 0.05))
    return root


def train(environment: dict[str, str], name: str, start: Path, out: Path, *bindings: str) -> list[float]:
    """Trains two steps with a file of gin/, in which only the batch sizes are reduced; returns the losses."""
    settings = [f"INITIAL_CHECKPOINT_PATH='{start}'", f"MODEL_DIR='{out}'", "TRAIN_STEPS=2", "BATCH_SIZE=4"]
    settings += [f"TASK_FEATURE_LENGTHS={LENGTHS}", "train_script.train.stats_period=1", *bindings]
    command = [sys.executable, "-m", "t5x.train", f"--gin_file=gin/{name}.gin"]
    done = subprocess.run(
        [*command, *(f"--gin.{setting}" for setting in settings)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, "XLA_FLAGS": "", **environment},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    rows = (out / "train" / "metrics.jsonl").read_text().splitlines()
    return [json.loads(row)["loss"] for row in rows]


def fsa(*arguments: object) -> None:
    assert cli.main([str(argument) for argument in arguments]) == 0


@pytest.mark.parametrize("family", MODELS)
def test_an_imported_model_is_trained_and_served_by_its_commands(family, data_dir, tmp_path):
    write_model(tmp_path / "source", MODELS[family])
    write_tokenizer(tmp_path / "source")
    student, distilled, tuned = (tmp_path / name for name in ("student", "distilled", "tuned"))
    fsa("import-hf", tmp_path / "source", student)
    environment = {"FSA_STUDENT": str(student), "FSA_DATA_DIR": str(data_dir)}
    more = [
        "utils.SaveCheckpointConfig.period=2",
        "train_script.train.eval_period=2",
        "train_script.train.eval_steps=1",
    ]
    losses = train(environment, "distill_chat", student / "checkpoint_0", distilled, *more)
    # The loss of random weights over 320 ids; a much larger loss would mean padding in it or another model.
    assert len(losses) == 2 and all(4 < loss < 60 for loss in losses)
    # The weights have changed as by two steps with a learning rate of 1e-5 from the imported weights.
    before, after = (load_weights(find_checkpoint(directory)) for directory in (student, distilled))
    moved = jax.tree.leaves(jax.tree.map(lambda x, y: float(np.abs(x - y).max()), before, after))
    assert 0 < max(moved) < 1e-4
    more = ["EVAL_PERIOD=2", "EVAL_STEPS=1", "infer_eval/utils.DatasetConfig.batch_size=4"]
    losses = train(environment, "finetune_chat", distilled / "checkpoint_2", tuned, *more)
    assert len(losses) == 2 and all(4 < loss < 60 for loss in losses)

    reviews = tmp_path / "in.txt"
    reviews.write_text("The pizza was great.\nThe waiter <|im_end|> forgot us, twice, and the soup.\nOK\n")
    settings = ["--task", "rewriting", "--max_output_length", "6"]
    outputs = []
    for size in (1, 3):
        outputs.append(tmp_path / f"jax{size}.jsonl")
        fsa("predict", tuned, reviews, outputs[-1], "--batch_size", size, "--base", student, *settings)
    if family == "qwen":  # CTranslate2's RoPE scaling is not that of Llama-3.2, see docs/serving.md.
        fsa("export-ct2", tuned, tmp_path / "ct2", "--base", student, "--quantization", "float32", "--check_count", "4")
        outputs.append(tmp_path / "ct2.jsonl")
        fsa("predict", tmp_path / "ct2", reviews, outputs[-1], *settings)
    generated = [[json.loads(line)["generated"] for line in output.read_text().splitlines()] for output in outputs]
    assert len(generated[0]) == 3 and any(generated[0])
    assert all(texts == generated[0] for texts in generated)
