"""Beam search against enumeration of all sequences, sampling against the probabilities it should have.

The language here has 4 tokens: 0 padding, 1 end, 2 and 3. The probability of a token depends on the two before it,
which the "network" keeps in its cache, so that a cache that went to the wrong beam shows.
"""

import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fsa_base.errors import SettingError
from t5x.decoding import beam_search, temperature_sample

VOCAB, END = 4, 1
LOGITS = np.random.RandomState(2).randn(3, VOCAB, VOCAB, VOCAB).astype(np.float32) * 1.5
"""By example, token before the last, and last token."""


def log_probs(example: int, before: int, last: int) -> np.ndarray:
    logits = LOGITS[example, before, last].astype(np.float64)
    return logits - np.log(np.exp(logits).sum())


def network(state):
    """Logits by the last token and the one before it, which the cache holds; ``example`` tells which language."""
    last = state.cur_token[:, 0]
    logits = jnp.asarray(LOGITS)[state.cache["example"], state.cache["before"], last]
    return logits, {**state.cache, "before": last, "cache_index": state.cache["cache_index"] + 1}


def empty_cache(batch: int):
    return {
        "example": jnp.arange(batch),
        "before": jnp.zeros((batch,), jnp.int32),
        "cache_index": jnp.zeros((), jnp.int32),
    }


def stacked_network(state):
    logits, cache = network(state.replace(cache=jax.tree.map(lambda leaf: leaf[0], state.cache)))
    return logits, jax.tree.map(lambda leaf: leaf[None], cache)


def enumerate_finished(example: int, length: int, alpha: float) -> list[tuple[float, tuple[int, ...]]]:
    """Every sequence that ends within ``length`` with its score, the best first."""
    found = []
    for count in range(1, length + 1):
        for body in itertools.product((0, 2, 3), repeat=count - 1):
            tokens, before, last, total = (*body, END), 0, 0, 0.0
            for token in tokens:
                total += log_probs(example, before, last)[token]
                before, last = last, token
            found.append((total / ((5 + count) / 6) ** alpha, tokens))
    return sorted(found, reverse=True)


@pytest.mark.parametrize("alpha", [0.0, 0.6, 2.0])
@pytest.mark.parametrize("cache_offset", [0, 1])
def test_a_wide_beam_finds_the_best_of_all_sequences(alpha, cache_offset):
    length, beams = 4, 60
    cache = empty_cache(3) if not cache_offset else jax.tree.map(lambda leaf: leaf[None], empty_cache(3))
    decodes, scores = beam_search(
        jnp.zeros((3, length), jnp.int32),
        cache,
        stacked_network if cache_offset else network,
        END,
        num_decodes=beams,
        alpha=alpha,
        cache_offset=cache_offset,
    )
    assert decodes.shape == (3, beams, length)
    for example in range(3):
        best = enumerate_finished(example, length, alpha)[:20]
        found = [tuple(row) for row in np.asarray(decodes[example, ::-1][:20]).tolist()]
        assert found == [tokens + (0,) * (length - len(tokens)) for _, tokens in best]
        np.testing.assert_allclose(scores[example, ::-1][:20], [score for score, _ in best], rtol=1e-5)
    assert (np.diff(np.asarray(scores), axis=1) >= 0).all(), "the best is last"


def test_narrow_beam_returns_true_scores():
    decodes, scores = beam_search(jnp.zeros((3, 5), jnp.int32), empty_cache(3), network, END, num_decodes=2, alpha=0.6)
    for example in range(3):
        every = {tokens: score for score, tokens in enumerate_finished(example, 5, 0.6)}
        for tokens, score in zip(np.asarray(decodes[example]).tolist(), scores[example], strict=True):
            if END in tokens:
                assert float(score) == pytest.approx(every[tuple(tokens[: tokens.index(END) + 1])], rel=1e-5)


def never_ending(state):
    logits, cache = network(state)
    return logits.at[:, END].set(-1e9), cache


def test_unfinished_beams_keep_their_plain_log_probability():
    decodes, scores = beam_search(jnp.zeros((2, 3), jnp.int32), empty_cache(2), never_ending, END, 40, alpha=0.6)
    best = np.asarray(decodes[0, -1]).tolist()
    totals = {}
    for tokens in itertools.product((0, 2, 3), repeat=3):
        before, last, total = 0, 0, 0.0
        for token in tokens:
            logits = np.delete(LOGITS[0, before, last].astype(np.float64), END)
            total += LOGITS[0, before, last, token] - np.log(np.exp(logits).sum())
            before, last = last, token
        totals[tokens] = total
    assert tuple(best) == max(totals, key=lambda tokens: totals[tokens])
    assert float(scores[0, -1]) == pytest.approx(max(totals.values()), rel=1e-5)


def test_limits_of_the_search():
    inputs = jnp.zeros((1, 6), jnp.int32)
    decodes, _ = beam_search(inputs, empty_cache(1), never_ending, END, 4, max_decode_len=3)
    assert decodes.shape == (1, 4, 3)
    decodes, _ = beam_search(inputs, empty_cache(1), never_ending, END, 4, max_decode_step=2)
    assert decodes.shape == (1, 4, 6) and not decodes[:, :, 2:].any()
    _, scores = beam_search(inputs, empty_cache(1), never_ending, END, 4)
    above_one_step, _ = beam_search(inputs, empty_cache(1), never_ending, END, 4, min_log_prob=-1e-3)
    assert scores[0, -1] < -1e-3 and not above_one_step[:, :, 1:].any()


def test_rows_are_decoded_until_the_shortest_prompt_reaches_the_maximum_length():
    """As in T5X: a decode that comes to its end token after max_decode_len is cut off and keeps its score."""

    def ends_at_step_four(state):
        """Half the probability on the end token at the fourth step and on 3 before it, half on 2."""
        rows = jnp.arange(state.cur_token.shape[0])
        first = jnp.where(state.cache["steps"] == 3, END, 3)
        logits = jnp.full((len(rows), VOCAB), -1e9).at[rows, first].set(1e-3).at[rows, 2].set(0.0)
        return logits, {"steps": state.cache["steps"] + 1}

    prompts = jnp.array([[0, 3, 2, 2, 0, 0], [0, 3, 0, 0, 0, 0]])
    cache = {"steps": jnp.zeros(2, jnp.int32)}
    decodes, scores = beam_search(prompts, cache, ends_at_step_four, END, 1, alpha=1.0, initial_index=jnp.array([3, 1]))
    np.testing.assert_array_equal(decodes[:, 0], [[3, 2, 2, 3, 3, 3], [3, 3, 3, 3, END, 0]])
    np.testing.assert_allclose(scores[:, 0], 4 * np.log(0.5) / ((5 + np.array([3, 1]) + 4) / 6), rtol=1e-3)


@pytest.mark.parametrize("decoder", [beam_search, temperature_sample])
def test_decodes_begin_with_their_prompts(decoder):
    prompts = jnp.array([[0, 3, 3, 2, 0, 0, 0], [0, 2, 0, 0, 0, 0, 0], [0, 0, 0, 0, 0, 0, 0]])
    decodes, _ = decoder(prompts, empty_cache(3), network, END, num_decodes=3)
    assert (np.asarray(decodes[0, :, :3]) == [3, 3, 2]).all()
    assert (np.asarray(decodes[1, :, :1]) == [2]).all()


def test_prompts_already_in_the_cache_give_the_same_beams():
    prompts = jnp.array([[0, 3, 2, 0, 0, 0, 0, 0, 0], [0, 2, 0, 0, 0, 0, 0, 0, 0]])
    plain, plain_scores = beam_search(prompts, empty_cache(2), network, END, num_decodes=3)
    cache = {"example": jnp.arange(2), "before": jnp.array([3, 0]), "cache_index": jnp.array([2, 1])}
    ahead, ahead_scores = beam_search(prompts, cache, network, END, num_decodes=3, initial_index=jnp.array([2, 1]))
    np.testing.assert_array_equal(ahead, plain)
    np.testing.assert_allclose(ahead_scores, plain_scores, rtol=1e-5)


def one_step(rng=0, **options):
    """20,000 samples of the first token of example 0, and their scores."""
    decodes, scores = temperature_sample(
        jnp.zeros((1, 1), jnp.int32),
        empty_cache(1),
        network,
        END,
        decode_rng=jax.random.PRNGKey(rng),
        num_decodes=20_000,
        **options,
    )
    return np.asarray(decodes[0, :, 0]), np.asarray(scores[0])


PROBABILITIES = np.exp(log_probs(0, 0, 0))
RANKED = np.argsort(-PROBABILITIES)


@pytest.mark.parametrize(
    ("options", "weights"),
    [
        ({"topk": 0}, PROBABILITIES),
        ({"topk": 0, "temperature": 0.5}, PROBABILITIES**2),
        ({"topk": 2}, np.where(np.isin(np.arange(VOCAB), RANKED[:2]), PROBABILITIES, 0)),
        ({"topk": 3, "temperature": 2.0}, np.where(np.isin(np.arange(VOCAB), RANKED[:3]), PROBABILITIES**0.5, 0)),
        (
            {"topk": 0, "topp": float(PROBABILITIES[RANKED[0]] + 1e-3)},
            np.where(np.isin(np.arange(VOCAB), RANKED[:2]), PROBABILITIES, 0),
        ),
        ({"topk": 1}, np.eye(VOCAB)[RANKED[0]]),
        ({"topk": 0, "temperature": 0.0}, np.eye(VOCAB)[RANKED[0]]),
    ],
)
def test_samples_have_the_expected_probabilities(options, weights):
    expected = weights / weights.sum()
    tokens, scores = one_step(**options)
    observed = np.bincount(tokens, minlength=VOCAB) / len(tokens)
    np.testing.assert_allclose(observed, expected, atol=4 * np.sqrt(0.25 / len(tokens)))
    assert (observed[expected == 0] == 0).all()
    np.testing.assert_allclose(scores, np.log(expected[tokens]), rtol=1e-3, atol=1e-6)
    assert (np.diff(scores) >= 0).all(), "the likeliest is last"
    tokens, scores = one_step(**options, rescale_log_probs=False)
    np.testing.assert_allclose(scores, np.log(PROBABILITIES)[tokens], rtol=1e-5)


def test_samples_depend_on_the_seed():
    first, _ = one_step(rng=1, topk=0)
    again, _ = one_step(rng=1, topk=0)
    other, _ = one_step(rng=2, topk=0)
    # Rows come back sorted by score, so it is how many of each token there are that differs.
    np.testing.assert_array_equal(first, again)
    assert (np.bincount(first, minlength=VOCAB) != np.bincount(other, minlength=VOCAB)).any()


def test_greedy_by_default_and_nothing_follows_the_end():
    decodes, scores = temperature_sample(jnp.zeros((3, 6), jnp.int32), empty_cache(3), network, END)
    np.testing.assert_allclose(scores, 0.0, atol=1e-6)
    for example, row in enumerate(np.asarray(decodes[:, 0]).tolist()):
        before, last, expected = 0, 0, []
        while len(expected) < 6 and END not in expected:
            expected.append(int(np.argmax(LOGITS[example, before, last])))
            before, last = last, expected[-1]
        assert row == expected + [0] * (6 - len(expected))


def test_an_end_token_in_the_prompt_does_not_end_the_decode():
    prompts = jnp.array([[0, 3, 1, 3, 0, 0, 0, 0]] * 3)
    decodes, _ = temperature_sample(prompts, empty_cache(3), network, END, topk=0, num_decodes=20)
    assert (np.asarray(decodes[:, :, :3]) == [3, 1, 3]).all()
    assert np.asarray(decodes[:, :, 3]).any()


def test_steps_are_counted_from_the_end_of_the_prompt():
    prompts = jnp.array([[0, 3, 3, 0, 0, 0, 0, 0], [0, 0, 0, 0, 0, 0, 0, 0]])
    every: list[dict[str, Any]] = [{"max_decode_steps": 2}, {"max_decode_steps": 9, "max_decode_steps_hard_limit": 2}]
    for options in every:
        decodes, _ = temperature_sample(
            prompts, empty_cache(2), lambda state: (network(state)[0].at[:, 3].set(99.0), state.cache), END, **options
        )
        assert np.asarray(decodes[:, 0]).tolist() == [[3, 3, 3, 3, 0, 0, 0, 0], [3, 3, 0, 0, 0, 0, 0, 0]]
    decodes, _ = temperature_sample(
        prompts,
        empty_cache(2),
        lambda state: (network(state)[0].at[:, 3].set(99.0), state.cache),
        END,
        max_decode_steps=jnp.array([1, 3]),
    )
    assert np.asarray(decodes[:, 0]).tolist() == [[3, 3, 3, 0, 0, 0, 0, 0], [3, 3, 3, 0, 0, 0, 0, 0]]


def test_callbacks_may_change_logits_and_state():
    def only_twos(logits, state):
        return jnp.where(state.cur_index[:, None] < 2, logits.at[:, 2].set(99.0), logits.at[:, 3].set(99.0))

    def end_after_four(state):
        return state.replace(ended=state.ended | (state.cur_index >= 4)[:, None])

    decodes, _ = temperature_sample(
        jnp.zeros((1, 6), jnp.int32),
        empty_cache(1),
        network,
        END,
        logit_callback_fn=only_twos,
        state_callback_fn=end_after_four,
    )
    assert np.asarray(decodes).tolist() == [[[2, 2, 3, 3, 0, 0]]]


def test_topk_with_topp_is_refused():
    with pytest.raises(SettingError, match=r"topk=1, topp=0\.9"):
        temperature_sample(jnp.zeros((1, 2), jnp.int32), empty_cache(1), network, END, topp=0.9)
