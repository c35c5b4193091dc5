"""Trains, evaluates or infers two small steps with every run file of gin/ and of the contract, on the installed engine.

    python -m tests.runtime.conformance.project_files WORLD OUT [FILE ...]

from the repository's root. The files are read as they are; only sizes are bound from outside, as on the command line.
``WORLD`` is made where it is not there: generated reviews and labels, a vocabulary, an imported chat student.
``OUT/results.json`` gets the loss of every step by file.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

HERE = "tests/runtime/conformance"
ROWS = 768
STEPS = 2

T5_SIZES = {"vocab_size": ROWS, "dtype": "float32", "emb_dim": 16, "num_heads": 2, "head_dim": 8, "mlp_dim": 32}
T5_SIZES |= {"num_encoder_layers": 1, "num_decoder_layers": 1}
T5 = [f"vocabulary.t5_vocabulary.model_rows = {ROWS}"]
T5 += [f"network.T5Config.{name} = {value!r}" for name, value in T5_SIZES.items()]
CHAT_STUDENT = {"model_type": "qwen2", "vocab_size": 320, "hidden_size": 32, "intermediate_size": 64}
CHAT_STUDENT |= {"num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "rope_theta": 10000.0}
CHAT_STUDENT |= {"tie_word_embeddings": True}
CHAT = ["llama.student_config.dtype = 'float32'"]
SHORT = ["TASK_FEATURE_LENGTHS = {'inputs': 32, 'targets': 32}", "BATCH_SIZE = 4"]
LONG = ["TASK_FEATURE_LENGTHS = {'inputs': 512, 'targets': 256}", "BATCH_SIZE = 4"]
DISTIL = [*SHORT, "train_script.train.eval_period = 2", "utils.SaveCheckpointConfig.period = 2"]
DISTIL += ["train_script.train.eval_steps = 1"]
FINETUNE = [*SHORT, "EVAL_PERIOD = 2", "EVAL_STEPS = 1", "infer_eval/utils.DatasetConfig.batch_size = 4"]
EVAL = ["EVAL_OUTPUT_DIR = '{out}/{name}'", "CHECKPOINT_PATH = '{out}/{before}/checkpoint_2'"]

FILES: dict[str, tuple[list[str], list[str], str]] = {
    # name: gin files, bindings, the run whose checkpoint it starts from
    "distill_base": (["gin/distill_base.gin"], [*DISTIL, *T5], ""),
    "distill_base_unpacked": (["gin/distill_base_unpacked.gin"], [*DISTIL, *T5], "distill_base"),
    "distill_tiny": (["gin/distill_tiny.gin"], [*SHORT, *T5, "PERIOD = 2", f"VOCABULARY_ROWS = {ROWS}"], ""),
    "finetune_base": (["gin/finetune_base.gin"], [*FINETUNE, *T5], "distill_base"),
    "finetune_tiny": (["gin/finetune_tiny.gin"], [*FINETUNE, *T5, f"VOCABULARY_ROWS = {ROWS}"], "distill_tiny"),
    "eval_base": (["gin/eval_base.gin"], [*SHORT, *T5, *EVAL], "finetune_base"),
    "eval_tiny": (["gin/eval_tiny.gin"], [*SHORT, *T5, *EVAL, f"VOCABULARY_ROWS = {ROWS}"], "finetune_tiny"),
    "distill_chat": (["gin/distill_chat.gin"], [*DISTIL, *LONG, *CHAT], "student"),
    "finetune_chat": (["gin/finetune_chat.gin"], [*FINETUNE, *LONG, *CHAT], "distill_chat"),
}
for run, before in (("pretrain", ""), ("finetune", "pretrain"), ("eval", "finetune"), ("infer", "finetune")):
    files = ["t5x/examples/t5/t5_1_1/tiny.gin", f"t5x/configs/runs/{run}.gin", f"{HERE}/task.gin"]
    more = {"pretrain": DISTIL[2:], "finetune": FINETUNE[2:], "eval": EVAL}.get(run)
    more = more or ["INFER_OUTPUT_DIR = '{out}/{name}'", EVAL[1], "infer_script.infer.mode = 'predict'"]
    FILES[run] = (files, [*more, *(["utils.SaveCheckpointConfig.period = 2"] if run == "finetune" else [])], before)


def make_world(world: Path) -> None:
    """Writes generated data, a vocabulary for it and a chat student with random weights, all from fixed seeds."""
    from fsa_jax.demo import train_vocabulary
    from fsa_jax.synthetic.files import TEACHER_FILE, generate
    from fsa_jax.synthetic.oracle import Oracle
    from fsa_jax.synthetic.world import SplitSizes
    from fsa_jax.weights.import_model import import_model
    from tests.parity.small_models import write_tokenizer
    from tests.weights.hf_models import write_model

    sizes = SplitSizes(train=24, dev=8, test=8, hard_test=8)
    generate(world / "data", 0, 150, sizes, Oracle(0, 0.05, 0.05))
    train_vocabulary.train(world / "data" / TEACHER_FILE, ROWS - 101, world / "spiece.model")
    write_model(world / "qwen", CHAT_STUDENT)
    write_tokenizer(world / "qwen")
    import_model(str(world / "qwen"), world / "student")


def run_file(name: str, world: Path, out: Path) -> dict[int, float]:
    """Runs one file; returns the loss by step where it trains."""
    import gin
    from t5x import gin_utils
    from tests.runtime.conformance.engine_runs import evaluate, infer, scalars, train

    files, bindings, before = FILES[name]
    start = str(world / "student" / "checkpoint_0") if before == "student" else f"{out}/{before}/checkpoint_2"
    places = {"{out}": str(out), "{name}": name, "{before}": before}
    bound = []
    for binding in bindings:
        for place, value in places.items():
            binding = binding.replace(place, value)
        bound.append(binding)
    trains = not name.startswith(("eval", "infer"))
    if trains:
        # Only the contract's finetune.gin goes on counting from the steps of the checkpoint.
        steps = STEPS if not name.startswith("finetune") or "gin/" in files[0] else STEPS + 2
        bound += [f"MODEL_DIR = '{out / name}'", f"TRAIN_STEPS = {steps}", "RANDOM_SEED = 1"]
        bound += ["train/utils.DatasetConfig.seed = 1", "train_script.train.stats_period = 1"]
        bound += [f"INITIAL_CHECKPOINT_PATH = '{start}'"] if before else []
    gin.clear_config()
    gin_utils.parse_gin_flags(["."], files, bound)
    gin.get_configurable(train if trains else evaluate if name.startswith("eval") else infer)()
    return scalars(os.path.join(out, name, "train"), "loss") if trains else {}


def main() -> None:
    """Runs what the command line names, every file by default."""
    world, out = Path(sys.argv[1]).absolute(), Path(sys.argv[2]).absolute()
    # Read when the tasks are imported.
    os.environ |= {"FSA_DATA_DIR": str(world / "data"), "FSA_VOCAB": str(world / "spiece.model")}
    os.environ["FSA_STUDENT"] = str(world / "student")
    if not world.exists():
        world.mkdir(parents=True)
        make_world(world)
    results: dict[str, Any] = {}
    # The contract's first: upstream's model files name a network without importing it, which is ambiguous once a
    # network of ours is known under the same name.
    for name in sys.argv[3:] or sorted(FILES, key=lambda name: "gin/" in FILES[name][0][0]):
        results[name] = run_file(name, world, out)
        print(name, results[name], flush=True)
    (out / "results.json").write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    from tests.runtime.conformance.engine_runs import evaluate, infer, train  # where the run files look for them

    __all__ = ["evaluate", "infer", "train"]
    main()
