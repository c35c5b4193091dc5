"""Parses untrusted JSON, or Python literals in place of JSON, into values that are safe to use.

``json`` accepts values that cause errors later: nesting that is too deep for recursive functions, and strings that
cannot be encoded in UTF-8. For other problems it raises three kinds of exceptions.
"""

from __future__ import annotations

import ast
import json
import re
import warnings
from typing import Any

MAX_DEPTH = 100
"""Largest nesting of objects and arrays. Python's own limit depends on the depth of the call stack."""
MAX_DIGITS = 4300
"""Largest number of digits of an integer: Python's limit for parsing and printing integers."""
MAX_LITERAL_CHARACTERS = 200_000
"""Largest size of a Python literal. Parsing needs about 300 bytes of memory per byte of text."""

_SURROGATE = re.compile("[\ud800-\udfff]")
_SURROGATE_ESCAPE = re.compile(r"\\u[dD][89a-fA-F]")
# 2**n has n * log10(2) digits.
_MAX_BITS = int(MAX_DIGITS / 0.30103)


class UntrustedJsonError(ValueError):
    """Text that cannot be used as JSON.

    Attributes:
      reason: one of few fixed phrases, so that reasons can be counted; it contains nothing of the text.
    """

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason


def parse(text: str | bytes, *, lone_surrogates: bool = False) -> Any:
    """Returns the value of a JSON text. Its nesting is at most MAX_DEPTH, and its numbers can be printed.

    Args:
      text: JSON text; bytes must be UTF-8.
      lone_surrogates: whether to accept strings with half a surrogate pair (``"\\ud800"``), for callers that clean
        them. Such strings cannot be written to a file, so by default they are refused.

    Raises:
      UntrustedJsonError: the text is not JSON, or has a value that would fail later.
    """
    if isinstance(text, bytes):
        try:
            text = text.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise UntrustedJsonError("text that is not UTF-8", str(error)) from None
    try:
        value = json.loads(text)
    except RecursionError:
        raise _too_deep() from None
    except json.JSONDecodeError as error:
        raise UntrustedJsonError("broken JSON", str(error)) from None
    except ValueError:
        raise _too_many_digits() from None
    # The values of most texts need not be checked: deep nesting needs many brackets, and in text from a file half a
    # surrogate pair is always escaped.
    surrogates = not lone_surrogates and bool(_SURROGATE_ESCAPE.search(text) or _SURROGATE.search(text))
    if surrogates or text.count("[") + text.count("{") > MAX_DEPTH:
        _check(value, surrogates)
    return value


def parse_literal(text: str) -> Any:
    """Returns the value of a Python literal, with JSON types. Lone surrogates are kept. No code is executed.

    Raises:
      UntrustedJsonError: the text is not a literal, is longer than MAX_LITERAL_CHARACTERS, or has no equivalent in
        JSON.
    """
    if len(text) > MAX_LITERAL_CHARACTERS:
        raise UntrustedJsonError(f"Python literal of over {MAX_LITERAL_CHARACTERS:,} characters")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            value = ast.literal_eval(text.strip())
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        # The messages of these errors quote the untrusted text and say little else, so they are dropped.
        raise UntrustedJsonError("broken JSON") from None
    _check(value, surrogates=False)
    return value


def has_lone_surrogate(text: str) -> bool:
    """Returns whether a string has half a surrogate pair, so that it cannot be encoded in UTF-8."""
    return not text.isascii() and _SURROGATE.search(text) is not None


def _check(value: Any, surrogates: bool) -> None:
    level = [value]
    for _ in range(MAX_DEPTH + 1):
        below: list[Any] = []
        for part in level:
            if isinstance(part, str):
                if surrogates and has_lone_surrogate(part):
                    raise UntrustedJsonError("text with half a surrogate pair")
            elif isinstance(part, dict):
                if not all(isinstance(key, str) for key in part):
                    raise UntrustedJsonError("broken JSON", "a key that is not text")
                if surrogates and any(map(has_lone_surrogate, part)):
                    raise UntrustedJsonError("text with half a surrogate pair")
                below.extend(part.values())
            elif isinstance(part, list | tuple):
                below.extend(part)
            elif isinstance(part, int):
                if part.bit_length() > _MAX_BITS:
                    raise _too_many_digits()
            elif part is not None and not isinstance(part, float):
                raise UntrustedJsonError("broken JSON", f"a {type(part).__name__}")
        if not below:
            return
        level = below
    raise _too_deep()


def _too_deep() -> UntrustedJsonError:
    return UntrustedJsonError(f"JSON nested more than {MAX_DEPTH} deep")


def _too_many_digits() -> UntrustedJsonError:
    return UntrustedJsonError(f"a number of over {MAX_DIGITS:,} digits")
