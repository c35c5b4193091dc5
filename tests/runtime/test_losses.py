"""The loss against its formula in plain numpy, in float64."""

import math
import re

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
def test_sums_follow_their_formula(label_smoothing, z_loss):
    logits = jnp.asarray(LOGITS, jnp.float32)
    sums = losses.loss_sums(logits, jnp.asarray(TARGETS), jnp.asarray(WEIGHTS), label_smoothing, z_loss)
    expected, expected_z = expected_loss(label_smoothing, z_loss)
    assert float(sums.loss) == pytest.approx((expected * WEIGHTS).sum(), rel=1e-5)
    assert float(sums.z_loss) == pytest.approx((expected_z * WEIGHTS).sum(), rel=1e-5)
    assert float(sums.correct) == ((LOGITS.argmax(-1) == TARGETS) & (WEIGHTS > 0)).sum()


@pytest.mark.parametrize("positions", [1, 2, 3, 5, 9])
@pytest.mark.parametrize(("label_smoothing", "z_loss", "weights"), [(0.0, 0.0, None), (0.1, 1e-2, WEIGHTS / 3)])
def test_sums_of_chunks_are_those_of_all_logits(positions, label_smoothing, z_loss, weights):
    targets = jnp.asarray(TARGETS)
    weights = None if weights is None else jnp.asarray(weights, jnp.float32)
    hidden, matrix = (
        jnp.asarray(np.random.RandomState(seed).randn(*shape), jnp.float32)
        for seed, shape in ((2, (3, 5, 4)), (3, (4, 7)))
    )

    def whole(hidden, matrix):
        sums = losses.loss_sums(hidden @ matrix, targets, weights, label_smoothing, z_loss)
        return sums.loss * 2, sums

    def chunked(hidden, matrix):
        sums = losses.projected_loss_sums(
            hidden, matrix, targets, weights, label_smoothing, z_loss, chunk_bytes=3 * positions * 7 * 4.0
        )
        return sums.loss * 2, sums

    (expected, found) = (jax.jit(jax.value_and_grad(f, (0, 1), has_aux=True))(hidden, matrix) for f in (whole, chunked))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), expected, found)
    # Without differentiation the sums are computed in another way.
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), expected[0], chunked(hidden, matrix))


def test_a_chunk_is_never_all_logits():
    def largest(chunk_bytes):
        def loss(hidden, matrix):
            return losses.projected_loss_sums(hidden, matrix, targets, None, 0.0, 0.0, chunk_bytes).loss

        text = jax.jit(jax.grad(loss, (0, 1))).lower(hidden, matrix).as_text()
        return max(math.prod(map(int, shape.split("x"))) for shape in re.findall(r"tensor<([\dx]+)xf32>", text))

    hidden, matrix, targets = jnp.ones((2, 50, 8)), jnp.ones((8, 64)), jnp.ones((2, 50), jnp.int32)
    assert largest(2 * 50 * 64 * 4.0) == 2 * 50 * 64
    assert largest(2 * 10 * 64 * 4.0) == 2 * 10 * 64


@pytest.mark.parametrize(("label_smoothing", "z_loss"), [(0.0, 0.0), (0.1, 1e-2)])
def test_gradient_is_that_of_the_loss(label_smoothing, z_loss):
    def plain(logits):
        log_z = jax.nn.logsumexp(logits, axis=-1)
        log_probs = logits - log_z[..., None]
        target = jnp.where(jax.nn.one_hot(TARGETS, 7) > 0, 1 - label_smoothing, label_smoothing / 6)
        return jnp.sum((-jnp.sum(target * log_probs, -1) + z_loss * log_z**2) * WEIGHTS)

    def ours(logits):
        return losses.loss_sums(logits, jnp.asarray(TARGETS), jnp.asarray(WEIGHTS), label_smoothing, z_loss).loss

    logits = jnp.asarray(LOGITS, jnp.float32)
    np.testing.assert_allclose(jax.grad(ours)(logits), jax.grad(plain)(logits), rtol=1e-4, atol=1e-6)


def test_perfect_prediction_of_a_smoothed_target_has_loss_0():
    logits = jnp.log(jnp.where(jax.nn.one_hot(jnp.array([2]), 7) > 0, 0.9, 0.1 / 6))
    assert float(losses.loss_sums(logits, jnp.array([2]), label_smoothing=0.1).loss) == pytest.approx(0.0, abs=1e-6)


def test_targets_or_weights_of_another_shape_are_refused():
    with pytest.raises(TypeCheckError):
        losses.loss_sums(jnp.asarray(LOGITS), jnp.asarray(TARGETS)[:, 1:])
    with pytest.raises(TypeCheckError):
        losses.loss_sums(jnp.asarray(LOGITS), jnp.asarray(TARGETS), jnp.asarray(WEIGHTS)[1:])


def test_the_loss_and_metrics_of_a_batch():
    loss = losses.TransformerLoss(0.0, 0.0, "NUM_REAL_TARGET_TOKENS")
    batch = {
        "encoder_input_tokens": jnp.ones((3, 4), jnp.int32),
        "decoder_target_tokens": jnp.asarray(TARGETS),
        "decoder_loss_weights": jnp.asarray(WEIGHTS),
    }
    sums = loss.of_logits(jnp.asarray(LOGITS, jnp.float32), batch)
    value, metrics = loss.normalized(sums, batch, None)
    expected, _ = expected_loss(0.0, 0.0)
    assert float(loss.normalized(sums, batch, 4.0)[0]) == pytest.approx((expected * WEIGHTS).sum() / 4, rel=1e-5)
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
