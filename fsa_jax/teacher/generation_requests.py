"""Prompts, and the requests that they make: one for each review, prompt and sample.

A request's key makes sure that it is sent and paid only once. Prompts are versioned YAML files in ``prompts/``, each
identified by the hash of its content. The wording of the papers' prompts is not public. These are our own; they ask for
the format of the released teacher text (arXiv 2412.18552): ``Opinion Target 1: "…"``, ``Aspect:``, ``Sentiment:``,
``Reasoning:`` for the analysis, and plain first-person text for the rewriting. A published prompt file is never edited:
every change gets a new version.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from fsa_base.errors import DataError, SettingError, require_number
from fsa_jax.common.records import Review, Understanding
from fsa_jax.teacher.store.parts import key_beginning, request_key, review_identity
from fsa_jax.tokenizers.chat import escape_control_tokens

DIRECTORY = Path(__file__).parent / "prompts"

Message = dict[str, str]
"""``{"role": "system" | "user" | "assistant", "content": …}``"""

_CONTROL_TOKEN = re.compile(
    r"<(?=\|[^|<>\n]{1,40}\|>)"  # <|im_start|>, <|eot_id|> …
    r"|<(?=/?s>)|<(?=<?/?SYS>>)|\[(?=/?INST\])|\[(?=/?AVAILABLE_TOOLS\])"
    r"|<(?=(?:start|end)_of_turn>)|<(?=/?think>)|<(?=/?tool_call>)",
    re.IGNORECASE,
)


class _Example(BaseModel):
    model_config = ConfigDict(extra="forbid")
    review: str
    answer: str


class _PromptFile(BaseModel):
    model_config = ConfigDict(extra="forbid")
    understanding: Understanding
    system: str
    user: str
    examples: list[_Example] = Field(default_factory=list)
    expected_characters: int = Field(gt=0)


@dataclass(frozen=True)
class Prompt:
    """One version of one prompt.

    Attributes:
      name: the file's name without ``.yaml``, such as ``analysis-v1``.
      understanding: which form of teacher text it asks for.
      hash: first 32 hexadecimal digits of the SHA-256 of the file, with line ends as LF.
      expected_characters: typical length of an answer, for estimates before anything has been generated.
    """

    name: str
    understanding: Understanding
    hash: str
    system: str
    user: str
    examples: tuple[tuple[str, str], ...]
    expected_characters: int

    @cached_property
    def _opening(self) -> list[Message]:
        messages = [{"role": "system", "content": self.system.strip()}]
        for review, answer in self.examples:
            messages.append({"role": "user", "content": self._ask(review)})
            messages.append({"role": "assistant", "content": answer.strip()})
        return messages

    @cached_property
    def fixed_characters(self) -> int:
        """Characters of the chat apart from the review."""
        return sum(len(message["content"]) for message in self.messages(""))

    def messages(self, review: str, *, merge_system: bool = False, control_tokens: Iterable[str] = ()) -> list[Message]:
        """The chat that asks about one review; everything before the review is the same for all reviews.

        Args:
          review: text of the review. It is enclosed in tags, and control tokens of chat formats in it are broken up
            with a space.
          merge_system: whether to put the system message at the start of the first user message, for chat templates
            without a system role.
          control_tokens: further control tokens of the teacher's tokenizer.
        """
        opening = self._opening
        messages = [*opening, {"role": "user", "content": self._ask(_disarm(review, control_tokens))}]
        if merge_system:
            system, first, *rest = messages
            messages = [{"role": "user", "content": f"{system['content']}\n\n{first['content']}"}, *rest]
        return messages

    def _ask(self, review: str) -> str:
        tag = _fence_tag(review)
        parts = {"open": f"<{tag}>", "review": review.strip(), "close": f"</{tag}>"}
        # Replaced in one pass, so that "{{close}}" inside a review is not replaced.
        return re.sub(r"\{\{(open|review|close)\}\}", lambda found: parts[found[1]], self.user).strip()


def _fence_tag(review: str) -> str:
    """A tag that does not occur in the review, so that no review can end its own enclosing tag."""
    lowered = review.casefold()
    if "<review" not in lowered and "</review" not in lowered:
        return "review"
    number = 1
    while f"review-{number}" in lowered:
        number += 1
    return f"review-{number}"


def _disarm(review: str, control_tokens: Iterable[str]) -> str:
    review = _CONTROL_TOKEN.sub(lambda found: found[0] + " ", review)
    return escape_control_tokens(review, control_tokens)


def load_prompt(name: str) -> Prompt:
    """Loads a prompt by name (``analysis`` is the newest ``analysis-vN``), by versioned name, or by the path of a YAML
    file.

    Raises:
      SettingError: there is no such prompt.
      DataError: the file is not a prompt.
    """
    return read_prompt(_find(name))


def _find(name: str) -> Path:
    if name.endswith((".yaml", ".yml")):
        path = Path(name)
        if not path.is_file():
            raise SettingError("--prompts", expected="a prompt file", found=f"no file {name}", fix="check the path")
        return path
    versions: dict[str, tuple[int, Path]] = {}
    for path in sorted(DIRECTORY.glob("*-v*.yaml")):
        family, _, version = path.stem.rpartition("-v")
        versions[path.stem] = (int(version), path)
        versions[family] = max(versions.get(family, (0, path)), (int(version), path))
    if name not in versions:
        known = ", ".join(sorted(path.stem for path in DIRECTORY.glob("*-v*.yaml")))
        raise SettingError(
            "--prompts", expected=f"one of {known}, or a .yaml file", found=repr(name), fix="name one of them"
        )
    return versions[name][1]


def read_prompt(path: Path) -> Prompt:
    """Reads and checks one prompt file.

    Raises:
      DataError: the file is not YAML, a field is missing, or ``user`` lacks one of ``{{open}} {{review}} {{close}}``.
    """
    content = path.read_bytes().replace(b"\r\n", b"\n")
    fix = f"write it like {DIRECTORY / 'analysis-v1.yaml'}"
    try:
        file = _PromptFile.model_validate(yaml.safe_load(content))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise DataError(path, expected="YAML", found=str(error), fix=fix) from error
    except ValidationError as error:
        raise DataError(path, expected="a prompt", found=str(error), fix=fix) from error
    marks = re.findall(r"\{\{(\w+)\}\}", file.user)
    if marks != ["open", "review", "close"]:
        raise DataError(
            path,
            expected="{{open}} {{review}} {{close}} in user, once each and in this order",
            found=str(marks),
            fix=fix,
        )
    return Prompt(
        name=path.stem,
        understanding=file.understanding,
        hash=hashlib.sha256(content).hexdigest()[:32],
        system=file.system,
        user=file.user,
        examples=tuple((example.review, example.answer) for example in file.examples),
        expected_characters=file.expected_characters,
    )


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
        require_number("--temperature", self.temperature, 0)
        require_number("--top-p", self.top_p, 0, 1, above=True)
        require_number("--max-tokens", self.max_tokens, 1)

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
