"""JSON that somebody else wrote, and Python literals in its place: a value, or a reason; never a traceback later.

``json`` alone lets through what fails long after it was parsed: nesting that a recursive function cannot follow,
strings that UTF-8 cannot hold; and it has three kinds of exceptions for the rest.
"""

from __future__ import annotations

import ast
import json
import re
import warnings
from typing import Any

MAX_DEPTH = 100
"""Objects and arrays inside one another. Python's own limit depends on who calls."""
MAX_DIGITS = 4300
"""Of a whole number: Python's limit for reading and printing one."""
MAX_LITERAL_CHARACTERS = 200_000
"""Of Python literals, which take some 300 bytes of memory for each byte of text while they are parsed."""

_SURROGATE = re.compile("[\ud800-\udfff]")
_SURROGATE_ESCAPE = re.compile(r"\\u[dD][89a-fA-F]")
# 2**n has n * log10(2) digits.
_MAX_BITS = int(MAX_DIGITS / 0.30103)


class UntrustedJsonError(ValueError):
    """Text that cannot be used as JSON.

    Attributes:
      reason: one of few fixed phrases, so that reasons can be counted; it holds nothing of the text.
    """

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason


def parse(text: str | bytes, *, lone_surrogates: bool = False) -> Any:
    """Returns the value of a JSON text; its nesting is at most MAX_DEPTH, and its numbers can be printed.

    Args:
      text: bytes must be UTF-8.
      lone_surrogates: let strings with half a surrogate pair (``"\\ud800"``) through, for callers that clean them.
        Nothing can write such a string to a file, so that they are refused otherwise.

    Raises:
      UntrustedJsonError: it is not JSON, or holds something that would fail later.
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
    # Most texts need no look at their values: whatever is deep has many brackets, and half a pair is always escaped
    # in text that came from a file.
    surrogates = not lone_surrogates and bool(_SURROGATE_ESCAPE.search(text) or _SURROGATE.search(text))
    if surrogates or text.count("[") + text.count("{") > MAX_DEPTH:
        _check(value, surrogates)
    return value


def parse_literal(text: str) -> Any:
    """Returns the value of a Python literal, as JSON would have it; lone surrogates stay. Nothing is evaluated.

    Raises:
      UntrustedJsonError: it is no literal, is longer than MAX_LITERAL_CHARACTERS, or has no equal in JSON.
    """
    if len(text) > MAX_LITERAL_CHARACTERS:
        raise UntrustedJsonError(f"Python literal of over {MAX_LITERAL_CHARACTERS:,} characters")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            value = ast.literal_eval(text.strip())
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        # Their messages quote the text, and say little else.
        raise UntrustedJsonError("broken JSON") from None
    _check(value, surrogates=False)
    return value


def has_lone_surrogate(text: str) -> bool:
    """Returns whether a string holds half a surrogate pair, so that UTF-8 cannot hold it."""
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
                    raise UntrustedJsonError("broken JSON", "a key that is no text")
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
