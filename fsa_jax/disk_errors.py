"""Finds out whether a full or read-only disk caused an error; libraries wrap such errors in their own types."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator


def disk_error(error: BaseException, numbers: Collection[int]) -> OSError | None:
    """Returns the OSError with one of the ``numbers`` (of ``errno``) that caused ``error``; None if there is none."""
    for link in _chain(error):
        for number in numbers:
            if getattr(link, "errno", None) == number or os.strerror(number) in str(link):
                return OSError(number, os.strerror(number), getattr(link, "filename", None))
    return None


def _chain(error: BaseException) -> Iterator[BaseException]:
    link: BaseException | None = error
    while link is not None:
        yield link
        link = link.__cause__ or link.__context__
