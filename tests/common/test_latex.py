"""Untrusted text in LaTeX."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fsa_jax.common.latex import escaped


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain text, 3.5", "plain text, 3.5"),
        ("a_b & 50% #1", r"a\_b \& 50\% \#1"),
        (r"\input{x}", r"\textbackslash{}input\{x\}"),
        ("$x^2$ ~", r"\$x\textasciicircum{}2\$ \textasciitilde{}"),
        ("two\nlines\tand \x1b[31m", r"two lines and \textbackslash{}x1b[31m"),
    ],
)
def test_text_is_shown_as_it_is(text, expected):
    assert escaped(text) == expected


@given(st.text())
def test_nothing_that_latex_obeys_is_left(text):
    words = "textbackslash|textasciitilde|textasciicircum|textless|textgreater|textbar"
    known = rf"\\(?:{words})\{{\}}|\\ensuremath\{{\\pm\}}|\\[&%$#_{{}}]"
    rest = re.sub(known, "", escaped(text))
    assert not set(rest) & set("\\~^<>|&%$#_{}\n\r")
