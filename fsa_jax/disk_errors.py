"""Whether a disk that is full or read-only is behind a library's error: each raises one of its own."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator


def disk_error(error: BaseException, numbers: Collection[int]) -> OSError | None:
    """Returns the system's error among ``numbers`` (of ``errno``) that caused ``error``, None if none did."""
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
