from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fsa_base.errors import SettingError
from fsa_jax.common.records import Review
from fsa_jax.teacher.generation_requests import RequestMaker, SamplingSettings, Teacher, load_prompt
from fsa_jax.teacher.store.key_set import KeySet, as_keys
from fsa_jax.teacher.store.shard_files import Shard

TEACHER = Teacher("t", "abc", SamplingSettings(), seed=1)
REVIEW = Review(id="r", text="fine")


def key(teacher: Teacher = TEACHER, prompt: str = "analysis", review: Review = REVIEW) -> bytes:
    return next(RequestMaker(teacher, [load_prompt(prompt)]).requests(review)).key


@pytest.mark.parametrize(
    "other",
    [
        lambda: key(replace(TEACHER, name="u")),
        lambda: key(replace(TEACHER, revision="abd")),
        lambda: key(replace(TEACHER, sampling=SamplingSettings(temperature=0.0))),
        lambda: key(replace(TEACHER, sampling=SamplingSettings(extra={"top_k": 3}))),
        lambda: key(replace(TEACHER, seed=2)),
        lambda: key(prompt="rewriting"),
        lambda: key(review=Review(id="s", text="fine")),
        lambda: key(review=Review(id="r", text="fine!")),
    ],
)
def test_whatever_changes_the_answer_changes_the_key(other: Callable[[], bytes]):
    assert key() == key()
    assert other() != key()


def test_stars_do_not_change_the_key():
    assert key(review=Review(id="r", text="fine", stars=4)) == key()


def test_samples_are_separate_requests():
    maker = RequestMaker(TEACHER, [load_prompt("analysis"), load_prompt("rewriting")], samples=3)
    requests = list(maker.requests(REVIEW))
    assert len({request.key for request in requests}) == len({request.engine_seed for request in requests}) == 6
    alone = RequestMaker(TEACHER, [load_prompt("rewriting")])
    assert next(alone.requests(REVIEW)).key in {request.key for request in requests}


def test_shards_divide_the_reviews_evenly_and_completely():
    shards = [Shard.parse(f"{i}/4") for i in range(4)]
    holders = [[shard.index for shard in shards if shard.holds(f"review {i}")] for i in range(4000)]
    assert all(len(holder) == 1 for holder in holders)
    assert min(np.bincount([holder[0] for holder in holders])) > 900


@pytest.mark.parametrize("text", ["4/4", "-1/4", "1", "a/b", "1/0", ""])
def test_bad_shards_are_refused(text: str):
    with pytest.raises(SettingError, match="--shard"):
        Shard.parse(text)


@pytest.mark.parametrize(
    "settings", [{"temperature": -1}, {"top_p": 0}, {"max_tokens": 0}, {"temperature": float("nan")}]
)
def test_bad_sampling_settings_are_refused(settings: dict[str, float]):
    with pytest.raises(SettingError):
        SamplingSettings(**settings)  # pyright: ignore[reportArgumentType]


@settings(max_examples=50)
@given(st.lists(st.lists(st.binary(min_size=1, max_size=2).map(lambda head: head.ljust(16, b"\0")), max_size=40)))
def test_key_set_is_a_set(batches: list[list[bytes]]):
    # Keys that end in zero bytes, which numpy's byte strings cut off.
    keys, reference = KeySet(), set()
    for batch in batches:
        new = keys.add_new(as_keys(batch))
        for one, is_new in zip(batch, new.tolist(), strict=True):
            assert is_new == (one not in reference)
            reference.add(one)
        assert keys.contains(as_keys(batch)).all()
    assert len(keys) == len(reference)


def test_key_set_takes_16_bytes_a_key():
    rng = np.random.default_rng(0)
    keys = KeySet()
    for _ in range(50):
        keys.add_new(np.frombuffer(rng.bytes(16 * 1000), "S16"))
    assert keys.nbytes == 16 * len(keys) == 16 * 50_000
