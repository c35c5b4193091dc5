"""Runs of the reference model, on whichever engine is installed, several in one process.

    python -m tests.runtime.conformance.engine_runs OUT RUN [RUN ...]

from the repository's root. ``OUT/RUN`` becomes the model directory of each run, and ``OUT/results.json`` gets the loss
of every step, the hash of every leaf of checkpoint_0, decoded tokens and their scores. The goldens in
tests/testdata/conformance are what upstream T5X wrote here.
"""

from __future__ import annotations

import functools
import glob
import hashlib
import json
import os
import sys
from collections.abc import Callable
from typing import Any

import flax
import jax
import numpy as np
import orbax.checkpoint as ocp

import gin
from t5x import decoding, gin_utils, models
from t5x.eval import evaluate
from t5x.examples.decoder_only import network as lm
from t5x.examples.t5 import network as t5
from t5x.infer import infer
from t5x.train import train
from tests.runtime.conformance import tasks

__all__ = ["evaluate", "infer", "train"]  # where the run files look for them: in __main__

HERE = "tests/runtime/conformance"
STEPS = 50
ONE_BATCH = ["MIXTURE_OR_TASK_NAME = 'conformance_one_batch'", "SHUFFLE_TRAIN_EXAMPLES = False"]
UNPACKED = ["train/utils.DatasetConfig.pack = False"]
CURVES: dict[str, tuple[list[str], list[str]]] = {
    "adafactor_packed": ([], []),
    "adafactor_unpacked": ([], UNPACKED),
    "adamw_packed": (["adamw.gin"], []),
    "adamw_unpacked": (["adamw.gin"], UNPACKED),
    "recipe_packed": (["recipe.gin"], []),
}
"""Training runs of 50 steps: gin files beside the reference, and bindings."""


def train_run(model_dir: str, steps: int, files: list[str], bindings: list[str]) -> dict[int, float]:
    """Trains to ``steps`` in ``model_dir``, from what is there; returns the loss by step, from the event files."""
    gin.clear_config()
    gin_utils.parse_gin_flags(
        ["."],
        [f"{HERE}/{name}" for name in ("reference.gin", *files)],
        [f"MODEL_DIR = '{model_dir}'", f"TRAIN_STEPS = {steps}", *bindings],
    )
    gin.get_configurable(train)()
    return scalars(os.path.join(model_dir, "train"), "loss")


def scalars(directory: str, tag: str) -> dict[int, float]:
    """The values of ``tag`` by step, in the order of the event files."""
    import tensorflow as tf
    from tensorflow.core.util.event_pb2 import Event  # pyright: ignore[reportMissingImports]

    found = {}
    for path in sorted(glob.glob(os.path.join(directory, "events*")), key=os.path.getmtime):
        for record in tf.data.TFRecordDataset(path):
            event = Event.FromString(bytes(record.numpy()))
            for value in event.summary.value:
                if value.tag == tag:
                    found[event.step] = float(tf.make_ndarray(value.tensor))
    return found


def parameters(checkpoint: str) -> dict[str, np.ndarray]:
    """Every leaf of a checkpoint's state, by its path."""
    with ocp.PyTreeCheckpointer() as reader:
        state = os.path.join(os.path.abspath(checkpoint), "state")
        tree = reader.metadata(state)
        tree = getattr(tree, "item_metadata", tree)
        tree = getattr(tree, "tree", tree)
        arguments = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), tree)
        restored = reader.restore(state, restore_args=arguments)
    leaves = jax.tree_util.tree_leaves_with_path(restored)
    return {jax.tree_util.keystr(path, simple=True, separator="/"): np.asarray(leaf) for path, leaf in leaves}


def hashes(leaves: dict[str, np.ndarray]) -> dict[str, list]:
    """Shape, type and hash of the bytes of every leaf."""
    return {
        name: [list(leaf.shape), str(leaf.dtype), hashlib.sha256(leaf.tobytes()).hexdigest()[:16]]
        for name, leaf in sorted(leaves.items())
    }


def curve(name: str, out: str) -> dict[str, Any]:
    """One training run from scratch: losses, and what checkpoint_0 holds."""
    files, bindings = CURVES[name]
    losses = train_run(os.path.join(out, name), STEPS, files, bindings)
    return {"loss": losses, "checkpoint_0": hashes(parameters(os.path.join(out, name, "checkpoint_0")))}


def resume(name: str, out: str) -> dict[str, Any]:
    """Goes on for four steps in ``OUT/NAME`` from the latest checkpoint there; trains up to 48 where there is none.

    Every batch holds the same examples in the same order, so losses do not hang on the position in the data, which the
    engines store differently.
    """
    model_dir = os.path.join(out, name)
    steps = [int(path.rsplit("_", 1)[1]) for path in glob.glob(os.path.join(model_dir, "checkpoint_*"))]
    bindings = [*ONE_BATCH, "utils.SaveCheckpointConfig.period = 20", "train_script.train.eval_period = 20"]
    if name.startswith("legacy"):
        bindings.append("train_script.train.use_orbax = False")
    losses = {}
    for step in [max(steps) + 4] if steps else [40, 44, 48]:
        losses |= train_run(model_dir, step, [], bindings)
    return {"loss": losses}


def decode(name: str, out: str) -> dict[str, Any]:
    """Tokens and scores of every kind of decoding, with the trained reference model and a decoder-only one.

    The reference model's parameters are those of the checkpoint ``fresh/checkpoint_40``, the decoder-only model's the
    initial ones, sharpened.
    """
    del name
    target = parameters(os.path.join(out, "fresh", "checkpoint_40"))
    flat = {tuple(path.split("/")[1:]): leaf for path, leaf in target.items() if path.startswith("target/")}
    shape = {"vocab_size": 64, "dtype": "float32", "emb_dim": 8, "num_heads": 4, "head_dim": 3, "mlp_dim": 16}
    shape |= {"mlp_activations": ("gelu", "linear"), "dropout_rate": 0.1}
    network = t5.Transformer(t5.T5Config(num_encoder_layers=2, num_decoder_layers=2, **shape))
    rows = tasks.examples(6, seed=99)
    batch = {
        "encoder_input_tokens": padded([[*inputs, 1] for inputs, _ in rows], 12),
        "decoder_input_tokens": padded([[0, *targets] for _, targets in rows], 12),
        "decoder_target_tokens": padded([[*targets, 1] for _, targets in rows], 12),
    }
    batch["decoder_loss_weights"] = (batch["decoder_target_tokens"] > 0).astype(np.int32)
    vocabulary = tasks.vocabulary()
    encoder_decoder = functools.partial(
        models.EncoderDecoderModel,
        module=network,
        input_vocabulary=vocabulary,
        output_vocabulary=vocabulary,
        optimizer_def=None,  # pyright: ignore[reportArgumentType]
    )
    found = decodes(encoder_decoder, {"params": flax.traverse_util.unflatten_dict(flat)}, batch)

    language_model = lm.DecoderWrapper(lm.TransformerConfig(num_layers=2, **shape))
    batch = {
        "decoder_input_tokens": padded([[0, *inputs, *targets] for inputs, targets in rows], 24),
        "decoder_target_tokens": padded([[*inputs, *targets, 1] for inputs, targets in rows], 24),
        "decoder_causal_attention": padded([[1] * (len(inputs) + 1) for inputs, _ in rows], 24),
        "decoder_loss_weights": padded([[0] * len(inputs) + [1] * (len(inputs) + 1) for inputs, _ in rows], 24),
    }
    ids = batch["decoder_input_tokens"]
    variables = language_model.init(jax.random.PRNGKey(2), ids, ids, enable_dropout=False)
    variables = {"params": jax.tree.map(lambda x: x * 1.5, flax.core.unfreeze(variables["params"]))}
    for bidirectional in (False, True):
        decoder_only = functools.partial(
            models.DecoderOnlyModel,
            module=language_model,
            vocabulary=vocabulary,
            optimizer_def=None,  # pyright: ignore[reportArgumentType]
            inputs_bidirectional_attention=bidirectional,
        )
        prefix = "prefix_lm" if bidirectional else "causal_lm"
        found |= {f"{prefix}/{key}": value for key, value in decodes(decoder_only, variables, batch).items()}
    return found


def parse(name: str, out: str) -> dict[str, Any]:
    """The bindings of every gin file of the project, and of every run and model file, with required macros given."""
    del name, out
    models = {f"t5x/examples/t5/t5_1_1/{size}.gin" for size in ("tiny", "small", "base", "large", "xl", "xxl")}
    models |= {f"t5x/examples/t5/t5_1_0/{size}.gin" for size in ("tiny", "small", "base", "large", "3B", "11B")}
    models |= {f"t5x/examples/decoder_only/models/{size}.gin" for size in ("base", "large", "xl", "xxl")}
    runs = {f"t5x/configs/runs/{run}.gin" for run in ("pretrain", "finetune", "eval", "infer")}
    found = {}
    # The engine's files first: upstream's size files name a network without importing it, so that a network of ours
    # that is already known would make the name ambiguous.
    for path in [*sorted(models), *sorted(runs), *sorted(glob.glob("gin/**/*.gin", recursive=True))]:
        macros = REQUIRED_BY_MODELS if "models/" in path or path in models else REQUIRED_BY_RUNS
        model = ["t5x/examples/t5/t5_1_1/tiny.gin"] if path in runs else []
        if path.startswith("gin/shared/"):
            # This one changes a recipe, the others are what recipes share.
            exact = path.endswith("exact_batches.gin")
            model = ["gin/distill_base.gin" if exact else "gin/models/t5_small.gin"]
        gin.clear_config()
        gin_utils.parse_gin_flags(
            ["."],
            [*model, path],
            [f"{macro} = {value!r}" for macro, value in macros.items()],
        )
        lines = gin.config_str(max_line_length=1000).splitlines()
        bindings = [line for line in lines if line and not line.startswith(("#", "import ", "from "))]
        # The size is all that models differ in.
        found[path] = [line for line in bindings if "Config." in line] if path in models else bindings
    return found


REQUIRED_BY_MODELS = {"DROPOUT_RATE": 0.0, "OPTIMIZER": None}
REQUIRED_BY_RUNS = {
    "MIXTURE_OR_TASK_NAME": "task",
    "TASK_FEATURE_LENGTHS": {"inputs": 8, "targets": 8},
    "TRAIN_STEPS": 1,
    "MODEL_DIR": "runs/none",
    "INITIAL_CHECKPOINT_PATH": "runs/none/checkpoint_0",
    "CHECKPOINT_PATH": "runs/none/checkpoint_0",
    "EVAL_OUTPUT_DIR": "runs/none",
    "INFER_OUTPUT_DIR": "runs/none",
    "DROPOUT_RATE": 0.0,
}


def padded(rows: list[list[int]], length: int) -> np.ndarray:
    """Rows of equal length, filled up with zeros: int32 (rows, length)."""
    return np.asarray([row + [0] * (length - len(row)) for row in rows], np.int32)


def decodes(make_model: Callable[..., Any], variables: dict[str, Any], batch: dict[str, np.ndarray]) -> dict[str, Any]:
    """Scores of the targets, and tokens and scores of each way to decode."""
    ways: dict[str, tuple[Callable[..., Any], dict[str, Any]]] = {
        "beam_4": (decoding.beam_search, {"num_decodes": 4}),
        "beam_2_alpha_0": (decoding.beam_search, {"num_decodes": 2, "decoder_params": {"alpha": 0.0}}),
        "greedy": (decoding.temperature_sample, {}),
        "sampled": (decoding.temperature_sample, {"num_decodes": 3, "decoder_params": {"topk": 0, "temperature": 0.8}}),
        "top_5": (decoding.temperature_sample, {"num_decodes": 2, "decoder_params": {"topk": 5}}),
        "nucleus": (decoding.temperature_sample, {"decoder_params": {"topk": 0, "topp": 0.7}}),
    }
    scores = make_model().score_batch(variables["params"], batch)
    found: dict[str, Any] = {"score_batch": np.asarray(scores).tolist()}
    for name, (decode_fn, options) in ways.items():
        model = make_model(decode_fn=decode_fn)
        predict = functools.partial(model.predict_batch_with_aux, return_all_decodes=True, **options)
        ids, aux = jax.jit(predict)(variables["params"], batch, jax.random.PRNGKey(11))
        found[name] = {"ids": np.asarray(ids).tolist(), "scores": np.asarray(aux["scores"]).tolist()}
    return found


RUNS: dict[str, Callable[[str, str], dict[str, Any]]] = {
    **dict.fromkeys(CURVES, curve),
    "fresh": resume,
    "resumed": resume,
    "legacy": resume,
    "decode": decode,
    "parse": parse,
}


def main() -> None:
    """Runs what the command line names."""
    out, *names = sys.argv[1:]
    results = {name: RUNS[name](name, out) for name in names}
    with open(os.path.join(out, "results.json"), "w", encoding="utf-8") as file:
        json.dump(results, file, indent=1)


if __name__ == "__main__":
    main()
