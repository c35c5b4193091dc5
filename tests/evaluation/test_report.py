"""The report page: one file, no script, all text escaped."""

from __future__ import annotations

import base64
import html.parser
import re

from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.figure import Figure

from fsa_jax.evaluation.report import (
    Cell,
    Example,
    Examples,
    Facts,
    Plot,
    Prediction,
    Report,
    Section,
    Table,
    Texts,
    render,
)

HOSTILE = "<script>alert(1)</script> & \"quoted\" 'single' {{ 7 * 7 }} {% raw %} <img src=x onerror=alert(2)> ]]> -->"


def figure(title: str = "") -> Figure:
    made = Figure(figsize=(2, 1))
    axes = made.add_subplot()
    axes.plot([0, 1], [1, 0])
    axes.set_title(title, parse_math=False)
    return made


def report(text: str) -> Report:
    example = Example(text, [(text, "positive")], (Prediction(text, [(text, text)]), Prediction("b", [])))
    blocks = (
        Table(text, ("", text), ((Cell(text), Cell(text, strong=True)),)),
        Plot(text, text, figure(text)),
        Examples(text, (example,)),
        Texts(text, ((text, text),)),
        Facts(text, ((text, text),)),
    )
    return Report(text, text, text, (Section(text, text, blocks),))


class Reader(html.parser.HTMLParser):
    """Collects tags, attributes and text like a browser."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs

    def handle_data(self, data):
        self.text += data


def read(page: str) -> Reader:
    reader = Reader()
    reader.feed(page)
    return reader


KNOWN = set(
    """html head meta title style body main h1 h2 p section div table caption thead tbody tr th td figure img figcaption
    span br pre dl dt dd""".split()  # noqa: SIM905
)


def test_hostile_text_is_shown_as_text():
    reader = read(render(report(HOSTILE)))
    assert set(reader.tags) <= KNOWN
    assert not [name for name, _ in reader.attributes if name.startswith("on")]
    assert reader.text.count(HOSTILE) >= 12


@settings(max_examples=15)
@given(st.text(st.characters(codec="utf-8", exclude_characters="\r\0"), min_size=1, max_size=40))
def test_any_text_is_shown_unchanged(text):
    page = render(
        Report(text, text, text, (Section(text, text, (Texts(text, ((text, text),)), Facts(text, ((text, text),)))),))
    )
    reader = read(page)
    assert set(reader.tags) <= KNOWN
    assert reader.text.count(text) >= 3


def test_the_page_is_one_file_without_script_or_network():
    page = render(report("plain"))
    assert "<script" not in page
    reader = read(page)
    sources = [value or "" for name, value in reader.attributes if name in ("src", "href")]
    assert sources and all(source.startswith("data:image/svg+xml;base64,") for source in sources)
    assert not re.search(r"url\(|@import|https?://", re.sub(r"base64,[^\"]*", "", page))
    assert "default-src 'none'" in page


def test_plots_are_embedded_with_their_description():
    block = Plot("caption", "what it shows", figure("<b>"))
    svg = base64.b64decode(block.source.partition(",")[2]).decode()
    assert svg.startswith("<?xml") and "<b>" not in svg
    assert 'alt="what it shows"' in render(Report("t", "c", "n", (Section("s", "x", (block,)),)))


def test_the_same_report_is_the_same_page():
    assert render(report("text")) == render(report("text"))


def test_examples_say_whether_a_prediction_is_right():
    gold = [("soup", "negative"), ("staff", "positive")]
    example = Example("s", gold, (Prediction("a", gold[::-1]), Prediction("b", gold[:1]), Prediction("c", gold * 2)))
    assert [example.is_right(prediction) for prediction in example.predictions] == [True, False, False]
    page = render(Report("t", "c", "n", (Section("s", "x", (Examples("", (example,)),)),)))
    assert page.count("✓") == 1 and page.count("✗") == 2


def test_a_page_without_blocks_renders():
    page = render(Report("t", "c", "n", (Section("empty", "x"), Section("none", "x", (Examples("", ()),)))))
    assert "empty" in page
