"""The train step: gradients of slices, dropout keys, metrics."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from tiny_network import tiny_batch, tiny_model, tiny_trainer

from fsa_base.errors import DataError, SettingError
from t5x import metrics as metrics_lib
from t5x import optimizers
from t5x.adafactor import Adafactor, standard_logical_factor_rules
from t5x.optimizers import create_learning_rate_scheduler
from t5x.partitioning import PjitPartitioner, make_mesh
from t5x.trainer import Trainer, WeightMetricsComputer

NORMALIZERS = [None, 5.0, "NUM_REAL_TARGET_TOKENS", "NUM_TOTAL_TARGET_TOKENS", "AVERAGE_PER_SEQUENCE"]


def make_trainer(model, batch, data_parallel=1, **options) -> Trainer:
    partitioner = PjitPartitioner(num_partitions=1)
    partitioner.mesh = make_mesh(jax.devices()[:data_parallel])
    return tiny_trainer(model, partitioner, batch, **options)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("normalizer", NORMALIZERS)
def test_slices_give_the_gradients_of_the_whole_batch(normalizer, packed):
    # One step of plain gradient descent at rate 1: the parameters move by the gradient.
    batch = tiny_batch(packed=packed)
    options = {"loss_normalizing_factor": normalizer, "z_loss": 1e-2, "label_smoothing": 0.1}
    whole = make_trainer(tiny_model(optimizers.sgd(1.0), **options), batch)
    sliced = make_trainer(tiny_model(optimizers.sgd(1.0), **options), batch, num_microbatches=4, data_parallel=2)
    whole_metrics = metrics_lib.summarize(whole.train_step(batch), seconds=2.0)
    sliced_metrics = metrics_lib.summarize(sliced.train_step(batch), seconds=2.0)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5),
        jax.device_get(sliced.train_state.params),
        jax.device_get(whole.train_state.params),
    )
    assert sliced_metrics == pytest.approx(whole_metrics, rel=1e-4)


def test_slices_must_divide_the_batch():
    trainer = make_trainer(tiny_model(optimizers.sgd(1.0)), tiny_batch(), num_microbatches=3)
    with pytest.raises(SettingError, match="8 rows"):
        trainer.train_step(tiny_batch())


def test_a_loss_that_cannot_be_sliced_is_refused():
    model = tiny_model(optimizers.sgd(1.0), loss_normalizing_factor="NUM_REAL_TARGET_TOKENS")
    whole_loss = model.loss_fn
    model.loss_fn = lambda params, batch, rng: whole_loss(params, batch, rng)
    with pytest.raises(SettingError, match="normalises each slice"):
        make_trainer(model, tiny_batch(), num_microbatches=2).train_step(tiny_batch())


def test_dropout_depends_on_the_step_alone():
    model = tiny_model(optimizers.sgd(0.0), dropout_rate=0.5)
    trainer = make_trainer(model, tiny_batch())
    losses = [float(trainer.train_step(tiny_batch())["loss"].total) for _ in range(3)]
    assert len(set(losses)) == 3
    trainer.train_state = jax.device_put(
        trainer.train_state.replace_step(jnp.asarray(1, jnp.int32)),
        trainer.partitioner.shardings(trainer.train_state_axes),
    )
    assert float(trainer.train_step(tiny_batch())["loss"].total) == losses[1]
    state = trainer.train_state
    key = jax.random.fold_in(jax.random.PRNGKey(1), 2)
    assert float(model.loss_fn(state.params, tiny_batch(), key)[0]) == pytest.approx(losses[2], rel=1e-6)


def test_the_optimizer_gets_the_rate_of_its_step():
    schedule = create_learning_rate_scheduler("linear_warmup", warmup_steps=4)
    optimizer = Adafactor(logical_factor_rules=standard_logical_factor_rules(), multiply_by_parameter_scale=False)
    trainer = make_trainer(tiny_model(optimizer), tiny_batch(), learning_rate_fn=schedule)
    before = jax.device_get(trainer.train_state.params["inner"])
    accumulator = metrics_lib.Accumulator()
    moves = []
    for _ in range(3):
        accumulator.add(trainer.train_step(tiny_batch()))
        after = jax.device_get(trainer.train_state.params["inner"])
        moves.append(np.abs(after - before).max())
        before = after
    assert moves[0] < 1e-6 < moves[1] < moves[2]
    values = metrics_lib.summarize(accumulator.drain())
    assert values["learning_rate"] == pytest.approx((0 + 0.25 + 0.5) / 3, abs=1e-6)
    assert values["learning_rate/current"] == pytest.approx(0.5)
    assert accumulator.drain() == {}


def test_metrics_have_the_names_and_values_of_t5x():
    batch = tiny_batch(packed=True)
    trainer = make_trainer(tiny_model(optimizers.sgd(0.0), z_loss=1e-2), batch)
    accumulator = metrics_lib.Accumulator()
    for _ in range(2):
        accumulator.add(trainer.train_step(batch))
    merged = accumulator.drain()
    values = metrics_lib.summarize(merged, seconds=4.0)
    tokens, real = batch["decoder_target_tokens"].size, int(batch["decoder_loss_weights"].sum())
    loss, _ = trainer.model.loss_fn(jax.device_get(trainer.train_state.params), batch, None)
    assert values["loss"] == pytest.approx(float(loss), rel=1e-5)
    assert values["loss_per_nonpadding_target_token"] == pytest.approx(float(loss) / real, rel=1e-5)
    assert values["loss_per_all_target_tokens"] == pytest.approx(float(loss) / tokens, rel=1e-5)
    assert values["cross_ent_loss"] + values["z_loss"] == pytest.approx(values["loss"], rel=1e-5)
    assert values["non_padding_fraction/loss_weights"] == pytest.approx(real / tokens)
    assert values["effective_batch_size/decoder"] == 16 and values["effective_batch_size/encoder"] == 8
    assert values["non_padding_fraction/overall"] == pytest.approx((real + 80) / (tokens + 80))
    assert values["timing/seqs_per_second"] == pytest.approx(2 * 8 / 4.0)
    assert values["timing/target_tokens_per_second"] == pytest.approx(2 * tokens / 4.0)
    assert values["timing/steps_per_second"] == pytest.approx(0.5)
    assert values["timing/seconds"] == 4.0 and values["timing/seqs"] == 16
    assert not {name for name in metrics_lib.summarize(merged) if "second" in name}, "no clock, no rates"


def test_evaluation_merges_batches_and_leaves_the_state():
    batches = [tiny_batch(seed=seed) for seed in (1, 2)]
    trainer = make_trainer(tiny_model(optimizers.sgd(1.0), dropout_rate=0.5), batches[0])
    params = jax.device_get(trainer.train_state.params)
    values = metrics_lib.summarize(trainer.eval({"task": iter(batches)})["task"])
    losses = [float(trainer.model.eval_fn(params, batch)[0]) for batch in batches]
    assert values["loss"] == pytest.approx(np.mean(losses), rel=1e-5)
    assert values["timing/seqs"] == 16 and int(trainer.train_state.step) == 0
    with pytest.raises(DataError, match="training evaluation empty"):
        trainer.eval({"empty": iter([])})


@pytest.mark.parametrize("num_microbatches", [None, 2])
def test_collections_of_the_network_are_kept(num_microbatches):
    model = tiny_model(optimizers.sgd(0.1), counts_calls=True)
    trainer = make_trainer(model, tiny_batch(), num_microbatches=num_microbatches)
    for _ in range(2):
        trainer.train_step(tiny_batch())
    assert int(trainer.train_state.flax_mutables["statistics"]["calls"]) == 2 * (num_microbatches or 1)
    trainer.eval_step(tiny_batch())
    assert int(trainer.train_state.flax_mutables["statistics"]["calls"]) == 2 * (num_microbatches or 1)


def test_weight_metrics_name_every_parameter():
    batch = tiny_batch()
    trainer = make_trainer(tiny_model(optimizers.sgd(0.5)), batch, weight_metrics_computer=WeightMetricsComputer())
    before = jax.device_get(trainer.train_state.params)
    values = metrics_lib.summarize(trainer.train_step(batch))
    update = jax.device_get(trainer.train_state.params)["inner"] - before["inner"]
    assert values["weight_rms/inner"] == pytest.approx(np.sqrt((before["inner"] ** 2).mean()), rel=1e-5)
    assert values["weight_update_rms/inner"] == pytest.approx(np.sqrt((update**2).mean()), rel=1e-4)
    assert values["weight_gradient_rms/inner"] == pytest.approx(2 * values["weight_update_rms/inner"], rel=1e-4)


def test_a_step_compiled_ahead_of_time_gives_the_same_losses():
    optimizer = optimizers.chain([optax.clip_by_global_norm(1.0), optax.adamw(1e-2)])
    trainers = [make_trainer(tiny_model(optimizer), tiny_batch(), data_parallel=4) for _ in range(2)]
    shapes = {name: jax.ShapeDtypeStruct(value.shape, value.dtype) for name, value in tiny_batch().items()}
    trainers[0].compile_train(shapes)
    for seed in range(3):
        losses = {float(trainer.train_step(tiny_batch(seed=seed))["loss"].total) for trainer in trainers}
        assert len(losses) == 1
