"""The examples of docs/labels.md are what they say."""

from __future__ import annotations

import re
from pathlib import Path

from fsa_jax.labels.checks import Checker, polarities_of
from fsa_jax.labels.formats import FORMATS, read_file
from fsa_jax.text.tuples import CODECS

DOCS = Path(__file__).parents[2] / "docs" / "labels.md"
MARKS = {
    '{"text"': "jsonl",
    "text,target": "table",
    "<sentences>": "semeval",
    "<Reviews>": "semeval",
    "####": "tuples",
    "$T$": "apc",
    "B-ASP": "atepc",
    "\t": "acos",
}


def test_every_example_of_a_format_is_read(tmp_path: Path) -> None:
    text = DOCS.read_text("utf-8").partition("## Formats")[2].partition("## Rules")[0]
    blocks = re.findall(r"(?:^    .*\n)+(?:\n(?=    ))?", text, re.MULTILINE)
    seen = set()
    for block in blocks:
        content = re.sub("^    ", "", block, flags=re.MULTILINE)
        expected = next(name for mark, name in MARKS.items() if mark in content)
        if expected == "jsonl":  # shown on several lines
            content = " ".join(content.splitlines())
        (tmp_path / "example").write_text(content, encoding="utf-8")
        found = read_file(tmp_path / "example")
        assert found.format == expected, content
        seen.add(expected)
        checker = Checker(polarities_of(label.polarity or "" for one in found.sentences for label in one.labels))
        assert any(checker.sentence(sentence).labels for sentence in found.sentences), content
        assert not checker.counts
    assert seen == FORMATS.keys()


def test_the_texts_of_the_forms_are_read_again() -> None:
    rows = re.findall(r"^\| `(\w+)` \| .* \| `(.*)` \|$", DOCS.read_text("utf-8"), re.MULTILINE)
    assert [form for form, _ in rows] == list(CODECS)
    for form, written in rows:
        tuples = CODECS[form].decode(written.replace("\\|", "|"), "The bread was good but the staff was rude.")
        assert len(tuples) == 2, form
