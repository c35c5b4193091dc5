"""The loss against its formula in plain numpy, in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import TypeCheckError
from shape_checks import checked

from fsa_base.errors import SettingError

(losses,) = checked("t5x.losses")
Special = losses.SpecialLossNormalizingFactor

LOGITS = np.random.RandomState(0).randn(3, 5, 7) * 3
TARGETS = np.random.RandomState(1).randint(0, 7, (3, 5))
WEIGHTS = np.array([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1], [1, 0, 0, 0, 0]])


def expected_loss(label_smoothing: float, z_loss: float) -> tuple[np.ndarray, np.ndarray]:
    log_z = np.log(np.exp(LOGITS).sum(-1))
    log_probs = LOGITS - log_z[..., None]
    target = np.where(np.eye(7)[TARGETS] > 0, 1 - label_smoothing, label_smoothing / 6)
    entropy = -sum(p * np.log(p) for p in (1 - label_smoothing, *[label_smoothing / 6] * 6) if p > 0)
    z = z_loss * log_z**2
    return -(target * log_probs).sum(-1) - entropy + z, z


@pytest.mark.parametrize("label_smoothing", [0.0, 0.1])
@pytest.mark.parametrize("z_loss", [0.0, 1e-2])
@pytest.mark.parametrize("normalizer", [None, 4.0])
def test_loss_follows_its_formula(label_smoothing, z_loss, normalizer):
    loss, z, _ = losses.weighted_cross_entropy(
        jnp.asarray(LOGITS, jnp.float32),
        jnp.asarray(TARGETS),
        jnp.asarray(WEIGHTS),
        label_smoothing,
        z_loss,
        normalizer,
    )
    expected, expected_z = expected_loss(label_smoothing, z_loss)
    divisor = normalizer or 1.0
    assert float(loss) == pytest.approx((expected * WEIGHTS).sum() / divisor, rel=1e-5)
    assert float(z) == pytest.approx((expected_z * WEIGHTS).sum() / divisor, rel=1e-5)


@pytest.mark.parametrize(("label_smoothing", "z_loss"), [(0.0, 0.0), (0.1, 1e-2)])
def test_gradient_is_that_of_the_loss(label_smoothing, z_loss):
    def plain(logits):
        log_z = jax.nn.logsumexp(logits, axis=-1)
        log_probs = logits - log_z[..., None]
        target = jnp.where(jax.nn.one_hot(TARGETS, 7) > 0, 1 - label_smoothing, label_smoothing / 6)
        return jnp.sum((-jnp.sum(target * log_probs, -1) + z_loss * log_z**2) * WEIGHTS)

    def ours(logits):
        return losses.weighted_cross_entropy(
            logits, jnp.asarray(TARGETS), jnp.asarray(WEIGHTS), label_smoothing, z_loss
        )[0]

    logits = jnp.asarray(LOGITS, jnp.float32)
    np.testing.assert_allclose(jax.grad(ours)(logits), jax.grad(plain)(logits), rtol=1e-4, atol=1e-6)


def test_perfect_prediction_of_a_smoothed_target_has_loss_0():
    logits = jnp.log(jnp.where(jax.nn.one_hot(jnp.array([2]), 7) > 0, 0.9, 0.1 / 6))
    loss, _, _ = losses.weighted_cross_entropy(logits, jnp.array([2]), label_smoothing=0.1)
    assert float(loss) == pytest.approx(0.0, abs=1e-6)


def test_targets_or_weights_of_another_shape_are_refused():
    with pytest.raises(TypeCheckError):
        losses.weighted_cross_entropy(jnp.asarray(LOGITS), jnp.asarray(TARGETS)[:, 1:])
    with pytest.raises(TypeCheckError):
        losses.weighted_cross_entropy(jnp.asarray(LOGITS), jnp.asarray(TARGETS), jnp.asarray(WEIGHTS)[1:])


def test_the_loss_and_metrics_of_a_batch():
    loss = losses.TransformerLoss(0.0, 0.0, "NUM_REAL_TARGET_TOKENS")
    batch = {
        "encoder_input_tokens": jnp.ones((3, 4), jnp.int32),
        "decoder_target_tokens": jnp.asarray(TARGETS),
        "decoder_loss_weights": jnp.asarray(WEIGHTS),
    }
    value, metrics = loss.of_batch(jnp.asarray(LOGITS, jnp.float32), batch, None)
    expected, _ = expected_loss(0.0, 0.0)
    assert float(value) == pytest.approx((expected * WEIGHTS).sum() / WEIGHTS.sum(), rel=1e-5)
    assert float(metrics["loss_per_nonpadding_target_token"].compute()) == pytest.approx(float(value), rel=1e-5)
    scores, tokens = losses.log_likelihood(jnp.asarray(LOGITS), jnp.asarray(TARGETS), jnp.asarray(WEIGHTS))
    np.testing.assert_allclose(scores, -(expected * WEIGHTS).sum(-1), rtol=1e-5)
    assert tokens["token_scores"][0].shape == TARGETS.shape


def normalizer_of(kind, batch) -> float:
    divisor = losses.loss_normalizer(kind, batch)
    assert divisor is not None
    return float(divisor)


def test_normalizers_of_a_batch():
    batch = {"decoder_target_tokens": jnp.asarray(TARGETS), "decoder_loss_weights": jnp.asarray(WEIGHTS)}
    assert losses.loss_normalizer(None, batch) is None
    assert losses.loss_normalizer(3.0, batch) == 3.0
    assert normalizer_of(Special.NUM_REAL_TARGET_TOKENS, batch) == 9
    assert normalizer_of(Special.NUM_TOTAL_TARGET_TOKENS, batch) == 15
    assert normalizer_of(Special.AVERAGE_PER_SEQUENCE, batch) == pytest.approx(3)


def test_packed_sequences_have_equal_weight():
    batch = {
        "decoder_target_tokens": jnp.ones((2, 5), jnp.int32),
        "decoder_loss_weights": jnp.array([[1, 1, 1, 1, 0], [1, 0, 1, 1, 1]]),
        "decoder_segment_ids": jnp.array([[1, 1, 1, 2, 0], [1, 2, 2, 2, 3]]),
    }
    weights = losses.target_weights(Special.AVERAGE_PER_SEQUENCE, batch)
    third = 1 / 3
    assert weights is not None
    np.testing.assert_allclose(weights, [[third, third, third, 1, 0], [1, 0, 0.5, 0.5, 1]], rtol=1e-6)
    assert normalizer_of(Special.AVERAGE_PER_SEQUENCE, batch) == pytest.approx(5)


def test_unknown_normalizer_is_named():
    assert losses.parse_loss_normalizer("num_real_target_tokens") is Special.NUM_REAL_TARGET_TOKENS
    with pytest.raises(SettingError, match="NUM_TOKENS"):
        losses.parse_loss_normalizer("NUM_TOKENS")
