"""HTML in reviews is converted before a teacher reads them."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fsa_jax.cli.main import main
from fsa_jax.reviews.parquet_files import read_reviews
from fsa_jax.reviews.row_to_review import clean_text, readable_text
from fsa_jax.reviews.source import Losses, Source
from fsa_jax.teacher.job import read_reviews as read_dump

TAGS, ENTITIES = "HTML tags converted", "HTML entities converted"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Nice.<br /><br />Cheap.", "Nice.\n\nCheap."),
        ("one <BR>two<br/>  \nthree<br><br><br>four", "one\ntwo\n  \nthree\n\nfour"),
        ("<p>One</p><p class='x'>Two</p>", "One\nTwo"),
        ("<ul><li>fast</li><li>cheap</li></ul>", "fast\ncheap"),
        ('a <b>very</b> good <a data-hook="x" href="/dp?a=1&amp;b=2">pizza</a>', "a very good pizza"),
        ("Tom &amp; Jerry&#39;s &quot;best&quot; caf&eacute;&nbsp;bar", 'Tom & Jerry\'s "best" café bar'),
        ("it&amp;#39;s 5 &amp;amp;lt; 6", "it's 5 < 6"),
        ("good&lt;br /&gt;cheap", "good\ncheap"),
        ("<b<i>r>", ""),
        ("&am<i title=';'>p;lt;3", "<3"),
        ("&#0;&#xD800;&#128512;&#12;.", "\ufffd\ufffd😀 ."),
    ],
)
def test_html_of_reviews_is_converted(text: str, expected: str):
    assert readable_text(text)[0] == expected
    assert set(readable_text(text)[1]) <= {TAGS, ENTITIES} != set()


@pytest.mark.parametrize(
    "text",
    [
        *(
            "I <3 it",
            "a < b and c > d",
            "x<y>z",
            "a <b and c> d",
            "AT&T; R&D",
            "fish & chips; wine",
            "&",
            "<",
            "<b",
            "b>",
        ),
        *("<script>alert(1)</script>", "&unknown;", "&#;", "<3 <br", "<<br", "< b >", "price<p=5>", "&#99999999999;"),
    ],
)
def test_text_that_only_looks_like_html_stays(text: str):
    assert readable_text(text) == (text, ())


PIECES = (
    *("&", "amp;", "lt;", "gt;", "#", "38", "60", "x3c", ";", "nbsp;", "&#12;", "&#10;", "&am"),
    *("<", ">", "/", "b", "br", "p", "a href", "=", " ", "\n", "\t", "'", "é", "\ud83d", "\x0c", "\u2028"),
)


@given(st.lists(st.sampled_from(PIECES), max_size=30).map("".join))
def test_a_converted_text_has_nothing_more_to_convert(text: str):
    converted, _ = readable_text(text)
    assert readable_text(converted) == (converted, ())
    if "&" not in text and "<" not in text:
        assert converted == clean_text(text)[0]


def test_html_made_to_be_slow_takes_linear_time():
    size = 100_000
    for text in (
        "&" + "amp;" * size,
        "&#" * size + "38;" * size,
        "<" * size + ">" * size,
        "<b" * size + ">" * size,
        "<a" + " " * size * 4 + "<b>",
        ("<a" + " " * 400) * 3000 + "<b>",
        "<b>&" + "x;" * size,
        "&amp;#5" * size + "7;" * size,
        "<b><a " * size + "=" * size,
    ):
        began = time.thread_time()
        readable_text(text)
        assert time.thread_time() - began < 10


def test_sample_and_teach_convert_html_and_count_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    source, output = tmp_path / "dump.jsonl", tmp_path / "out.parquet"
    texts = [f"Table {i} was clean.<br />It&#39;s a nice place." for i in range(4)] + ["I <3 the pizza at this place."]
    rows = [{"id": f"r{i}", "text": text, "stars": 3} for i, text in enumerate(texts)]
    source.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    options = ["--language", "null", "--near-duplicates", "null", "--stars-ratio", "null"]
    assert main(["sample", str(source), str(output), *options]) == 0
    report = json.loads(output.with_suffix(".report.json").read_text("utf-8"))
    assert report["files"][str(source)]["fixed"] == {TAGS: 4, ENTITIES: 4}
    assert f"fixed: {TAGS}" in capsys.readouterr().out
    wanted = {f"r{i}": f"Table {i} was clean.\nIt's a nice place." for i in range(4)} | {"r4": texts[4]}
    assert {review.id: review.text for review in read_reviews(output)} == wanted
    for path, fixed in ((source, {TAGS: 4, ENTITIES: 4}), (output, {})):
        losses = Losses()
        assert {review.id: review.text for review in read_dump([Source(str(path))], losses)} == wanted
        assert losses.repaired == fixed
