"""The switches that change the speed of a train step: with all of them it computes what the plain step computes."""

from __future__ import annotations

import dataclasses
import functools
import importlib.util
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import packed_text
import pytest
import seqio

from fsa_base.errors import SettingError
from fsa_base.networks import layers, t5
from fsa_base.networks.llama.config import LlamaConfig
from fsa_base.networks.llama.network import LlamaTransformer
from t5x import losses, models, optimizers
from t5x.examples.decoder_only.network import TransformerConfig
from t5x.partitioning import PjitPartitioner, make_mesh
from t5x.train_state import FlaxOptimTrainState
from t5x.trainer import Trainer

SIZES: dict[str, Any] = {"vocab_size": 384, "emb_dim": 32, "num_heads": 4, "head_dim": 8, "mlp_dim": 64}
SIZES |= {"attention_implementation": "plain"}
CONFIGS: dict[str, Any] = {
    "t5": t5.T5Config(num_encoder_layers=1, num_decoder_layers=1, logits_via_embedding=True, **SIZES),
    "llama": LlamaConfig(num_kv_heads=2, num_layers=1, **SIZES),
}
FAST = {"logits_in_dtype": True, "embedding_gradient": "one_hot", "attention_implementation": "recompute"}
STEPS, ROWS = 20, 8
CHUNK = ROWS * 43 * SIZES["vocab_size"] * 4 / 2**20 / jax.device_count()
"""Size in MiB of the logits of a third of a row of 128 tokens."""
CUDNN = ("__cudnn$fmhaScaleBiasSoftmax", "__cudnn$fmhaScaleBiasSoftmaxBackward")
has_cudnn = importlib.util.find_spec("jax_cuda12_plugin") is not None


def model(name: str, *, dtype: str = "float32", logits_chunk_mib: float = 0, **switches: Any) -> Any:
    """A model with one layer a stack, dropout, label smoothing and z-loss."""
    config = dataclasses.replace(CONFIGS[name], dtype=dtype, **switches)
    vocabulary: Any = seqio.ByteVocabulary()
    optimizer = optimizers.OptaxWrapper(optax.adam(1e-2))
    loss: dict[str, Any] = {
        "label_smoothing": 0.1,
        "z_loss": 1e-3,
        "loss_normalizing_factor": "NUM_REAL_TARGET_TOKENS",
        "logits_chunk_mib": logits_chunk_mib,
    }
    if name == "t5":
        return models.EncoderDecoderModel(t5.Transformer(config), vocabulary, vocabulary, optimizer, **loss)
    return models.DecoderOnlyModel(LlamaTransformer(config), vocabulary, optimizer, **loss)


def fast(name: str, **others: Any) -> Any:
    """The same model with all switches that run on a CPU, and a loss that is computed in three chunks."""
    return model(name, logits_chunk_mib=CHUNK, **{**FAST, **others})


@functools.cache
def batches(name: str) -> list[dict[str, np.ndarray]]:
    """Batches of packed rows of real text, for 20 steps."""
    if name == "t5":
        return packed_text.batches(seqio.EncDecFeatureConverter(pack=True), {"inputs": 64, "targets": 128}, ROWS, STEPS)
    return packed_text.batches(seqio.LMFeatureConverter(pack=True), {"targets": 128}, ROWS, STEPS)


def new_state(model: Any, batch: dict[str, np.ndarray]) -> FlaxOptimTrainState:
    shapes = {feature: values.shape for feature, values in batch.items()}
    variables = model.get_initial_variables(jax.random.PRNGKey(0), shapes)
    return FlaxOptimTrainState.create(model.optimizer_def, variables)


def distance(found: Any, expected: Any) -> Any:
    """The norm of each leaf's difference, relative to the norm of what is expected."""
    return jax.tree.map(lambda a, b: jnp.linalg.norm((a - b).ravel()) / jnp.linalg.norm(jnp.ravel(b)), found, expected)


def gradients(model: Any, params: Any, batch: Any, key: Any) -> tuple[Any, Any, Any]:
    (loss, metrics), found = jax.value_and_grad(model.loss_fn, has_aux=True)(params, batch, key)
    return loss, found, metrics["accuracy"].total


@functools.cache
def parameters(name: str, **switches: Any) -> Any:
    """Random parameters, made by one program: to compile each operation by itself takes seconds."""
    return jax.jit(functools.partial(new_state, model(name, **switches), batches(name)[0]))().params


@functools.cache
def bfloat16_gradients(name: str, switch: str | None) -> tuple[Any, Any, Any]:
    """Loss, gradients and correct tokens of the first batch, with a switch, or with none."""
    form = model(name, dtype="bfloat16", **({switch: FAST[switch]} if switch else {}))
    return jax.jit(gradients, static_argnums=0)(form, parameters(name), batches(name)[0], jax.random.PRNGKey(1))


@pytest.mark.parametrize("mesh", [(1, 1), (8, 1), (4, 2)], ids=["1x1", "8x1", "4x2"])
@pytest.mark.parametrize("name", CONFIGS)
def test_loss_and_gradients_are_those_of_the_plain_step(name, mesh):
    """20 steps; each begins for both at the state after the plain step before."""
    data, parts = mesh
    partitioner = PjitPartitioner(num_partitions=parts)
    if data * parts == 1:
        partitioner.mesh = make_mesh(jax.devices()[:1])
    assert dict(partitioner.mesh.shape) == {"data": data, "model": parts}
    plain, quick = model(name), fast(name)

    def compare(state: FlaxOptimTrainState, batch: Any):
        key = jax.random.fold_in(jax.random.PRNGKey(1), state.step)
        loss, expected, correct = gradients(plain, state.params, batch, key)
        *found, found_correct = gradients(quick, state.params, batch, key)
        after = state.apply_gradient(expected, learning_rate=1e-2)
        return after, distance(tuple(found), (loss, expected)), (loss, correct - found_correct)

    initialize = functools.partial(new_state, plain, batches(name)[0])
    axes = partitioner.get_mesh_axes(jax.eval_shape(initialize))
    step = partitioner.partition(compare, (axes, partitioner.data_partition_spec), (axes, None, None))
    state = partitioner.partition(initialize, (), axes)()
    seen = []
    assert max(batch["decoder_segment_ids"].max() for batch in batches(name)) > 1, "nothing is packed"
    for batch in batches(name):
        state, far, (loss, correct) = step(state, partitioner.global_batch(batch))
        far = {jax.tree_util.keystr(path): float(x) for path, x in jax.tree_util.tree_leaves_with_path(far)}
        assert max(far.values()) < 1e-5, sorted(far.items(), key=lambda item: -item[1])[:3]
        assert correct == 0
        seen.append(float(loss))
    assert seen[-1] < seen[0] - 0.3, "the plain step does not learn"


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("switch", ["logits_in_dtype", "embedding_gradient", "attention_implementation"])
def test_a_switch_changes_bfloat16_gradients_by_rounding_only(name, switch):
    loss, expected, _ = bfloat16_gradients(name, None)
    found_loss, found, _ = bfloat16_gradients(name, switch)
    assert float(found_loss) == pytest.approx(float(loss), rel=1e-3)
    assert max(jax.tree.leaves(distance(found, expected))) < 4e-2
    if switch == "embedding_gradient":
        assert max(jax.tree.leaves(distance(found, expected))) < 2e-3


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("name", CONFIGS)
def test_logits_have_the_type_of_the_activations_only_if_asked(name, tied):
    batch, params = batches(name)[0], parameters(name, logits_via_embedding=tied)

    def logits(dtype: str, asked: bool):
        made = model(name, dtype=dtype, logits_via_embedding=tied, logits_in_dtype=asked)
        return made._compute_logits(params, batch)

    assert jax.eval_shape(lambda: logits("bfloat16", False)).dtype == jnp.float32
    found, expected = jax.jit(lambda: (logits("bfloat16", True), logits("bfloat16", False)))()
    assert found.dtype == jnp.bfloat16
    assert float(distance(found.astype(jnp.float32), expected)) < 1e-2
    found, expected = jax.jit(lambda: (logits("float32", True), logits("float32", False)))()
    np.testing.assert_array_equal(found, expected)


def test_the_loss_of_bfloat16_logits_is_computed_in_float32_and_keeps_no_float32_logits():
    random = np.random.RandomState(0)
    logits = jnp.asarray(random.randn(3, 5, 70) * 3, jnp.bfloat16)
    targets = jnp.asarray(random.randint(0, 70, (3, 5)))

    def loss(logits):
        return losses.loss_sums(logits, targets, None, 0.1, 1e-2).loss

    value, pull = jax.vjp(loss, logits)
    wide = logits.astype(jnp.float32)
    assert float(value) == pytest.approx(float(loss(wide)), rel=1e-6)
    (found,) = pull(jnp.float32(1.0))
    np.testing.assert_array_equal(found, jax.grad(loss)(wide).astype(jnp.bfloat16))
    kept = [leaf.dtype for leaf in jax.tree.leaves(pull) if leaf.shape == logits.shape]
    assert kept == [jnp.bfloat16]


@pytest.mark.parametrize("name", CONFIGS)
def test_a_loss_in_chunks_never_holds_all_logits(name):
    quick, batch = model(name, logits_chunk_mib=CHUNK), batches(name)[0]
    params = parameters(name)
    step = jax.jit(lambda params: jax.value_and_grad(quick.loss_fn, has_aux=True)(params, batch, None))
    rows, length = batch["decoder_target_tokens"].shape
    text = step.lower(params).as_text()
    assert f"tensor<{rows}x{-(-length // 3)}x384x" in text
    assert f"tensor<{rows}x{length}x384x" not in text


@pytest.mark.parametrize("gradient", layers.EMBEDDING_GRADIENTS)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_gradient_of_a_lookup(gradient, dtype):
    ids = jnp.array([[3, 1, 1, 9], [1, -1, 0, 0]])
    table = jax.random.normal(jax.random.PRNGKey(0), (5, 6))
    rows = jax.random.normal(jax.random.PRNGKey(1), (2, 4, 6)).astype(dtype).at[1, 3].set(0)
    found, pull = jax.vjp(lambda table: layers.lookup(table, ids, jnp.dtype(dtype), gradient), table)
    inside = np.asarray((ids >= 0) & (ids < 5))
    np.testing.assert_array_equal(found, jnp.where(inside[..., None], table[ids], 0).astype(dtype))
    expected = np.zeros((5, 6))
    np.add.at(expected, ids[inside], np.asarray(rows, np.float64)[inside])
    np.testing.assert_allclose(pull(rows)[0], expected, rtol=1e-5, atol=1e-7)


def train_step(model: Any, batch: dict[str, np.ndarray]) -> tuple[Any, Any]:
    """The function that the trainer compiles, and the shapes of its state."""
    state = jax.eval_shape(lambda: new_state(model, batch))
    axes = PjitPartitioner(num_partitions=1).get_mesh_axes(state)
    schedule = optimizers.create_learning_rate_scheduler("constant")
    trainer = Trainer(
        model, state, PjitPartitioner(num_partitions=1), [], None, axes, jax.random.PRNGKey(0), schedule, None
    )
    return trainer.train_function, state


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", CONFIGS)
def test_the_fast_step_can_be_compiled_for_nvidia_gpus(name, dtype):
    """XLA's own compilation is not part of it; that needs a GPU."""
    batch = batches(name)[0]
    step, state = train_step(fast(name, dtype=dtype), batch)
    exported = jax.export.export(jax.jit(step), platforms=["cuda"])(state, batch, jax.random.PRNGKey(0))
    assert exported.platforms == ("cuda",)


@pytest.mark.skipif(not has_cudnn, reason="needs jax-cuda12-plugin and cuDNN (requirements-cuda.txt), but no GPU")
@pytest.mark.parametrize(("name", "attentions"), [("t5", 3), ("llama", 1)])
def test_a_step_with_cudnn_can_be_compiled_for_nvidia_gpus(name, attentions):
    batch = batches(name)[0]
    step, state = train_step(fast(name, dtype="bfloat16", attention_implementation="cudnn"), batch)
    exported = jax.export.export(
        jax.jit(step),
        platforms=["cuda"],
        disabled_checks=[jax.export.DisabledSafetyCheck.custom_call(call) for call in CUDNN],
    )(state, batch, jax.random.PRNGKey(0))
    text = str(exported.mlir_module())
    assert [text.count(f"{call}(") for call in CUDNN] == [attentions, attentions]


@pytest.mark.skipif(has_cudnn, reason="cuDNN is installed")
@pytest.mark.parametrize("name", CONFIGS)
def test_cudnn_is_refused_where_there_is_none(name):
    batch = batches(name)[0]
    with pytest.raises(SettingError, match=r"(?s)attention_implementation.*cuDNN.*set it to 'plain'"):
        train_step(model(name, dtype="bfloat16", attention_implementation="cudnn"), batch)


@pytest.mark.parametrize(
    "config",
    [
        *CONFIGS.values(),
        TransformerConfig(vocab_size=8),
    ],
    ids=["t5", "llama", "decoder_only"],
)
def test_unusable_switches_are_refused(config):
    kind = type(config).__name__
    with pytest.raises(SettingError, match=rf"{kind}.embedding_gradient: .*scatter.*found 'sum'"):
        dataclasses.replace(config, embedding_gradient="sum")
    with pytest.raises(SettingError, match=rf"{kind}.attention_implementation: .*found 'flash'"):
        dataclasses.replace(config, attention_implementation="flash")
    with pytest.raises(SettingError, match=rf"{kind}.attention_implementation: .*float32"):
        dataclasses.replace(config, attention_implementation="cudnn")
