"""Untrusted text in LaTeX: the name of a student or a path may contain commands, comments or line ends."""

from __future__ import annotations

from fsa_jax.common.terminal import printable

_SPECIAL = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "±": r"\ensuremath{\pm}",
    **{character: f"\\{character}" for character in "&%$#_{}"},
}


def escaped(text: object) -> str:
    r"""A text for a line or a table of LaTeX that is shown as it is: on one line, without commands or mathematics.

    Example:
      >>> print(escaped("50% of $x_1"))
      50\% of \$x\_1
    """
    return "".join(_SPECIAL.get(character, character) for character in " ".join(printable(str(text)).split()))
