"""Untrusted text in Markdown: a teacher's name or a path may contain markup, HTML or line ends."""

from __future__ import annotations

import html
import re

_MARKS = re.compile(r"[\\`*\[\]|~$]|(?<![^\W_])_|_(?![^\W_])")
"""Characters of Markdown's inline markup. An underscore between two letters or digits is none."""
_LINKS = re.compile(r"(?<=:)(?=//)|(?<=www)(?=\.)|(?=@)", re.IGNORECASE)
"""Places in bare addresses, which GitHub makes links. A comment there prevents it; a backslash before @ does not."""


def escaped(text: object) -> str:
    """A text for a line, a list or a table of Markdown that is shown as it is: on one line, without markup or links."""
    line = " ".join("".join(c if c.isprintable() else " " for c in str(text)).split())
    return _LINKS.sub("<!-- -->", _MARKS.sub(r"\\\g<0>", html.escape(line, quote=False)))
