"""The teacher's prompts: versioned YAML files, each identified by the hash of its content.

The wording of the papers' prompts is not public. These are our own; they ask for the format of the released teacher
text (arXiv 2412.18552): ``Opinion Target 1: "…"``, ``Aspect:``, ``Sentiment:``, ``Reasoning:`` for the analysis, and
plain first-person text for the rewriting. A published prompt file is never edited: every change gets a new version.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from fsa_base.errors import DataError, SettingError
from fsa_jax.common.records import Understanding
from fsa_jax.tokenizers.chat import escape_control_tokens

DIRECTORY = Path(__file__).parent

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
