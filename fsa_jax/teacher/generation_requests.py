"""Requests to a teacher: one for each review, prompt and sample. Its key makes sure that it is sent and paid only
once."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property, lru_cache
from typing import Any

from fsa_base.errors import SettingError
from fsa_jax.common.records import Review
from fsa_jax.teacher.prompts import Prompt

KEY_BYTES = 16


@dataclass(frozen=True)
class SamplingSettings:
    """Sampling settings of the teacher.

    Args:
      temperature: sampling temperature; 0 is greedy decoding.
      top_p: probability mass of the tokens to sample from (nucleus sampling).
      max_tokens: length limit of an answer in tokens.
      extra: further settings by name (``top_k``, ``min_p``, ``repetition_penalty`` …), passed on unchanged.
    """

    temperature: float = 0.7
    top_p: float = 0.95
    max_tokens: int = 768
    extra: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        checks = (
            ("--temperature", self.temperature >= 0, "at least 0", self.temperature),
            ("--top-p", 0 < self.top_p <= 1, "above 0 and at most 1", self.top_p),
            ("--max-tokens", self.max_tokens >= 1, "at least 1", self.max_tokens),
        )
        for where, fine, expected, found in checks:
            if not fine:
                raise SettingError(where, expected=expected, found=str(found), fix="choose another value")

    @cached_property
    def canonical(self) -> str:
        """The settings as JSON; equal settings give equal text."""
        return json.dumps(asdict(self), sort_keys=True)


@dataclass(frozen=True)
class Teacher:
    """The teacher of a generation: a model with its sampling settings.

    Args:
      name: model name or path that the engine or the endpoint uses.
      revision: commit or fingerprint of the weights; None for an endpoint, which does not tell it.
      sampling: sampling settings.
      seed: random seed of the whole job; another seed gives other texts.
    """

    name: str
    revision: str | None
    sampling: SamplingSettings
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Request:
    """One request to a teacher. ``attempt`` is 0 for the first attempt and grows when a failure is retried."""

    key: bytes
    review_id: str
    text: str
    prompt: Prompt
    sample: int
    attempt: int
    engine_seed: int
    """Random seed of this attempt; it differs between reviews, samples and attempts."""


@lru_cache(maxsize=1000)
def key_beginning(teacher: str, revision: str | None, sampling: str, seed: int, prompt_hash: str) -> hashlib.blake2b:
    """The hash state of the part of a key that is the same for all reviews; copy it and add each review.

    Args:
      teacher: name of the teacher.
      revision: revision of the teacher's weights.
      sampling: SamplingSettings.canonical, as in the store.
      seed: random seed of the job.
      prompt_hash: hash of the prompt.
    """
    constant = [teacher, revision, sampling, seed, prompt_hash]
    return hashlib.blake2b(json.dumps(constant).encode(), digest_size=KEY_BYTES)


def review_identity(review_id: str, text: str) -> bytes:
    """The part of a key that depends on the review."""
    # The length separates id and text; without it ("ab", "c") and ("a", "bc") would have the same key.
    return f"\0{len(review_id)}\0{review_id}\0{text}".encode("utf-8", "surrogatepass")


def request_key(beginning: hashlib.blake2b, sample: int, identity: bytes) -> bytes:
    """The key of a request: from the key_beginning of its teacher and prompt, and the review_identity of its review."""
    state = beginning.copy()
    state.update(b"\0%d" % sample)
    state.update(identity)
    return state.digest()


CHARACTERS_PER_TOKEN = 4.0
"""Average for English text and common tokenizers; used for estimates only."""


def expected_input_tokens(request: Request) -> int:
    """Approximate number of tokens of a request's prompt, computed without a tokenizer."""
    return int((request.prompt.fixed_characters + len(request.text)) / CHARACTERS_PER_TOKEN)


class RequestMaker:
    """Makes the requests of one teacher.

    Args:
      teacher: teacher that is asked.
      prompts: prompts that are sent for each review.
      samples: number of answers to each prompt.
    """

    def __init__(self, teacher: Teacher, prompts: Iterable[Prompt], samples: int = 1) -> None:
        if samples < 1:
            raise SettingError("--samples", expected="at least 1", found=str(samples), fix="ask for at least one")
        self.teacher = teacher
        self.prompts = tuple(prompts)
        self.samples = samples
        self._beginnings = [
            key_beginning(teacher.name, teacher.revision, teacher.sampling.canonical, teacher.seed, prompt.hash)
            for prompt in self.prompts
        ]

    def requests(self, review: Review) -> Iterator[Request]:
        """All requests about one review, as first attempts."""
        identity = review_identity(review.id, review.text)
        for prompt, beginning in zip(self.prompts, self._beginnings, strict=True):
            for sample in range(self.samples):
                key = request_key(beginning, sample, identity)
                yield Request(key, review.id, review.text, prompt, sample, 0, engine_seed(key, 0))


def engine_seed(key: bytes, attempt: int) -> int:
    """A 31-bit random seed for one attempt. It depends on the attempt, so that a retry does not repeat the same
    text."""
    digest = hashlib.blake2b(key + attempt.to_bytes(4, "big"), digest_size=4).digest()
    return int.from_bytes(digest, "big") & 0x7FFFFFFF


@dataclass(frozen=True)
class Shard:
    """Part ``index`` of ``count`` parts of a job, split by review. Each machine can do one; they share only the
    input."""

    index: int = 0
    count: int = 1

    @classmethod
    def parse(cls, text: str) -> Shard:
        """Parses ``i/n`` with ``i`` from 0 to n-1.

        Raises:
          SettingError: the text has another format.
        """
        index, _, count = text.partition("/")
        if not (index.isdecimal() and count.isdecimal() and 0 <= int(index) < int(count) < 100_000):
            raise SettingError(
                "--shard", expected="i/n with i from 0 to n-1", found=repr(text), fix="the first of four is 0/4"
            )
        return cls(int(index), int(count))

    def holds(self, review_id: str) -> bool:
        """Whether the review belongs to this shard. All samples and prompts of a review are in the same shard."""
        if self.count == 1:
            return True
        digest = hashlib.blake2b(review_id.encode("utf-8", "surrogatepass"), digest_size=8).digest()
        return int.from_bytes(digest, "big") % self.count == self.index

    @property
    def folder(self) -> str:
        return f"shard-{self.index:05d}-of-{self.count:05d}"
