from __future__ import annotations

from pathlib import Path

import label_samples
import pytest
from label_samples import SAMPLES, SENTENCES

from fsa_base.errors import DataError, FsaError
from fsa_jax.labels.checks import CheckedSentence
from fsa_jax.labels.dataset import OwnLabels, read_labels
from fsa_jax.labels.formats import FORMATS, read_file

PARTS = {
    "reviews.jsonl": "tcpo",
    "reviews.json": "tcpo",
    "reviews.csv": "tcpo",
    "semicolons.csv": "tcpo",
    "reviews.tsv": "tcpo",
    "semeval16.xml": "tcp",
    "tasd.txt": "tcp",
    "asqp.txt": "tcpo",
    "acos.tsv": "tcpo",
}
"""What the labels of a sample have: t term, c category, p polarity, o opinion words."""


def _read(folder: Path, content: str | bytes, name: str, lenient: bool = False) -> OwnLabels:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return read_labels(path, lenient=lenient)


def _all(labels: OwnLabels) -> dict[str, CheckedSentence]:
    return {sentence.text: sentence for sentences in labels.parts.values() for sentence in sentences}


@pytest.mark.parametrize("name", PARTS)
def test_every_format_gives_the_same_labels(tmp_path: Path, name: str) -> None:
    found = _all(read_labels(label_samples.write(tmp_path, name)))
    parts = PARTS[name]
    # ACOS has no way to write a sentence without a quadruple.
    expected = {text: labels for text, labels in SENTENCES if labels or name != "acos.tsv"}
    assert found.keys() == expected.keys()
    for text, labels in expected.items():
        read = [label.aspect for label in found[text].labels]
        assert [aspect.target for aspect in read] == [label.target for label in labels]
        assert [str(aspect.category).lower().replace("#", " ") for aspect in read] == [
            label.category for label in labels
        ]
        assert [aspect.polarity for aspect in read] == [label.polarity for label in labels]
        for aspect, label in zip(read, labels, strict=True):
            assert aspect.target is None or text[aspect.start : aspect.end] == aspect.target
            opinion = (label.opinion,) if label.opinion else ()
            assert aspect.opinion_words == (opinion if "o" in parts else None)


def test_terms_alone(tmp_path: Path) -> None:
    expected = {text: [(x.target, x.polarity) for x in labels] for text, labels in label_samples.with_terms()}
    for name in ("terms.apc", "terms.txt.atepc", "aste.txt", "semeval14.xml"):
        found = _all(read_labels(label_samples.write(tmp_path, name)))
        for text, labels in found.items():
            terms = [(x.aspect.target, x.aspect.polarity) for x in labels.labels if x.has_target]
            wanted = expected[text]
            if name == "aste.txt":  # labels without opinion words cannot be written
                wanted = [
                    (o.target, o.polarity) for t, all_ in SENTENCES if t == text for o in all_ if o.target and o.opinion
                ]
            assert terms == wanted, (name, text)
        missing = {text for text, labels in expected.items() if text not in found}
        assert not any(expected[text] for text in missing)


def test_semeval_2014_keeps_terms_and_categories_apart(tmp_path: Path) -> None:
    labels = _all(read_labels(label_samples.write(tmp_path, "semeval14.xml")))[SENTENCES[0][0]].labels
    assert [(x.has_target, x.aspect.target, x.aspect.category) for x in labels] == [
        (True, "bread", None),
        (True, "staff", None),
        (False, None, "food quality"),
        (False, None, "service general"),
    ]


def test_sentences_out_of_scope_are_counted(tmp_path: Path) -> None:
    labels = read_labels(label_samples.write(tmp_path, "semeval16.xml"))
    assert labels.counts == {"sentences out of scope": 1}
    assert "Was here before ." not in _all(labels)


def test_opinions_about_whole_reviews(tmp_path: Path) -> None:
    review = (
        '<Review rid="{0}"><sentences><sentence id="{0}:0"><text>Good bread {0} .</text></sentence>'
        '<sentence id="{0}:1"><text>Slow bar {1} .</text></sentence></sentences>'
        '<Opinions><Opinion category="FOOD#QUALITY" polarity="positive"/>'
        '<Opinion category="SERVICE#GENERAL" polarity="conflict"/></Opinions></Review>'
    )
    words = ["one two three", "four five six", "seven eight nine", "ten eleven", "what who", "why how when", "a b c d"]
    content = "".join(review.format(number, text) for number, text in enumerate(words))
    labels = _read(tmp_path, f"<Reviews>{content}</Reviews>", "reviews.xml")
    found = _all(labels)
    assert len(found) == len(words)
    sentence = found["Good bread 0 . Slow bar one two three ."]
    assert [(x.has_target, x.aspect.category, x.aspect.polarity) for x in sentence.labels] == [
        (False, "FOOD#QUALITY", "positive"),
        (False, "SERVICE#GENERAL", "conflict"),
    ]
    assert labels.counts == {"reviews with labels for the whole text, each an example": 7}


def _lines(*labels: str) -> str:
    """Lines of a ``####`` file with enough other sentences for a split."""
    others = [f"Number {word} has nice bread .####[['bread', 'food', 'positive']]" for word in "abcdefghij"]
    return "\n".join([*labels, *others]) + "\n"


@pytest.mark.parametrize(
    ("written", "polarity"),
    [
        ("POS", "positive"),
        ("Neg", "negative"),
        ("NEU", "neutral"),
        ("conflict", "conflict"),
        (" Positive ", "positive"),
    ],
)
def test_abbreviated_polarities(tmp_path: Path, written: str, polarity: str) -> None:
    found = _all(_read(tmp_path, _lines(f"Good tea here .####[['tea', 'drinks', '{written}']]"), "own.txt"))
    assert found["Good tea here ."].labels[0].aspect.polarity == polarity


def test_numbers_as_polarities_are_understood_together(tmp_path: Path) -> None:
    words = ["tea", "ale", "rum", "gin", "soup"]
    rows = "text,target,polarity\n" + "".join(
        f"The {word} stands on table {number} with {word * 2},{word},{polarity}\n"
        for number, (word, polarity) in enumerate(zip(words * 2, [*"01201"] * 2, strict=True))
    )
    found = [x.aspect.polarity for s in _all(_read(tmp_path, rows, "own.csv")).values() for x in s.labels]
    assert sorted(set(found)) == ["negative", "neutral", "positive"]
    shifted = rows.replace(",0\n", ",-1\n").replace(",1\n", ",0\n").replace(",2\n", ",1\n")
    again = [x.aspect.polarity for s in _all(_read(tmp_path, shifted, "own.csv")).values() for x in s.labels]
    assert again == found
    with pytest.raises(DataError, match="several meanings"):
        _read(tmp_path, rows.replace(",2\n", ",1\n"), "own.csv")
    with pytest.raises(DataError, match="from -1"):
        _read(tmp_path, rows.replace(",2\n", ",5\n"), "own.csv")


@pytest.mark.parametrize(
    ("name", "content", "line", "found"),
    [
        ("a.txt", _lines("Good tea .####[['tea', 'drinks', 'happy']]"), 1, "'happy'"),
        ("a.txt", _lines("Good tea .####[['wine', 'drinks', 'positive']]"), 1, "'wine' in 'Good tea .'"),
        ("a.txt", _lines("Good tea .####[([7], [0], 'POS')]"), 1, "[7]"),
        ("a.txt", _lines("Good tea .####[([1], [0])]"), 1, "([1], [0])"),
        ("a.txt", _lines("Good tea .####__import__('os').getcwd()"), 1, "__import__"),
        ("a.txt", _lines("x", "Good tea ."), 1, "without ####"),
        (
            "a.jsonl",
            '{"text": "Good tea .", "aspects": [{"target": "tea", "polarity": "positive", "from": 6, "to": 5}]}',
            1,
            "6 to 5",
        ),
        (
            "a.jsonl",
            '{"text": "Good tea .", "aspects": [{"target": "tea", "polarity": "positive", "from": 4, "to": 7}]}',
            1,
            "from 4 to 7",
        ),
        ("a.jsonl", '\n{"text": "Good tea .", "aspects": [{"polarity": "positive"}]}', 2, "only polarity"),
        ("a.jsonl", '{"text": "Good tea ."}\n{"text": 7}', 2, "7"),
        ("a.json", '[\n{"text": "Good tea .", "aspects": []},\n{"text" "x"}]', 3, "Expecting"),
        ("a.csv", "text,target,polarity\nGood tea,tea,positive\nGood tea,tea\n", 3, "columns"),
        ("a.csv", "text,target,polarity,from,to\nGood tea,tea,positive,x,8\n", 2, "'x'"),
        ("a.csv", "review,score\nGood tea,3\n", 1, "review, score"),
        ("a.apc", "Good $T$ .\ntea\n", 1, "end of the file"),
        ("a.apc", "Good $T$ .\ntea\nPositive\nGood tea .\ntea\nPositive\n", 4, "0 times"),
        ("a.atepc", "Good O -100\ntea I-ASP Positive\n. O -100\n", 2, "I-ASP after O"),
        ("a.atepc", "Good O -100\ntea B-ASP Positive\n. X -100\n", 3, "X -100"),
        ("a.xml", "<sentences>\n<sentence id='1'>\n</sentence></sentences>", 2, "none"),
        ("a.xml", "<sentences>\n<sentence><text>x</text>\n<aspectTerms>\n<aspectTerm term='x'/>", 4, "only term"),
        ("a.xml", "<sentences>\n<sentence><text>x</text>\n</sentences>", 3, "mismatched"),
        ("a.tsv", "Good tea .\t1,2 DRINKS#QUALITY 2 0,1\nGood ale .\t1,2 DRINKS 7 0,1\n", 2, "DRINKS 7"),
        ("a.txt", "Good tea .\nGood ale .\n", 1, "Good tea ."),
        ("a.txt", b"Good tea .\n\xff\xfe", 2, "0xff"),
        ("a.txt", "Good\0tea .####[]", 1, "NUL"),
    ],
)
def test_an_error_names_file_and_line(tmp_path: Path, name: str, content: str | bytes, line: int, found: str) -> None:
    with pytest.raises(DataError) as caught:
        _read(tmp_path, content, name)
    assert caught.value.where == f"{tmp_path / name}:{line}"
    assert found in caught.value.found


def test_entities_are_refused(tmp_path: Path) -> None:
    body = "<sentences><sentence><text>&b;</text></sentence></sentences>"
    bomb = f'<!DOCTYPE x [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;">]>\n{body}'
    with pytest.raises(DataError, match="entity"):
        _read(tmp_path, bomb, "bomb.xml")
    outside = f'<!DOCTYPE x [<!ENTITY b SYSTEM "file:///etc/passwd">]>\n{body}'
    with pytest.raises(DataError, match="entity"):
        _read(tmp_path, outside, "outside.xml")


def test_lenient_leaves_out_what_does_not_fit_and_counts_it(tmp_path: Path) -> None:
    content = _lines(
        "Good tea .####[['wine', 'drinks', 'positive'], ['tea', 'drinks', 'positive']]",
        "Good ale .####[[ale, 'drinks', 'positive']]",
        "Cheap rum .####[([9], [0], 'POS')]",
    )
    labels = _read(tmp_path, content, "own.txt", lenient=True)
    assert labels.counts == {
        "labels whose term or opinion words are not in their sentence": 2,
        "lines that could not be read": 1,
    }
    found = _all(labels)
    assert [x.aspect.target for x in found["Good tea ."].labels] == ["tea"]
    assert "Good ale ." not in found
    assert not found["Cheap rum ."].labels
    shifted = '{"text": "Good tea .", "aspects": [{"target": "tea", "polarity": "positive", "from": 4, "to": 7}]}\n'
    rest = label_samples.jsonl()
    labels = _read(tmp_path, shifted + rest, "own.jsonl", lenient=True)
    assert labels.counts == {"offsets of another text than their term, which were searched anew": 1}
    assert _all(labels)["Good tea ."].labels[0].aspect.start == 5


def test_terms_as_they_were_before_the_text_was_split_into_words(tmp_path: Path) -> None:
    labels = _read(
        tmp_path,
        _lines("You ca n't beat VT 's Price .####[[\"VT's price\", 'food', 'positive', \"can't beat\"]]"),
        "own.txt",
    )
    aspect = _all(labels)["You ca n't beat VT 's Price ."].labels[0].aspect
    assert (aspect.target, aspect.opinion_words) == ("VT 's Price", ("ca n't beat",))
    assert sum(labels.counts.values()) == 2


def test_broken_quotes_of_published_files(tmp_path: Path) -> None:
    line = "Ng's tea is \"fine\" .####[['Ng's tea', 'drinks', 'positive'], ['NULL', 'place', 'neutral']]"
    labels = _read(tmp_path, _lines(line), "own.txt")
    found = _all(labels)['Ng\'s tea is "fine" .'].labels
    assert [(x.aspect.target, x.aspect.category) for x in found] == [("Ng's tea", "drinks"), (None, "place")]
    assert labels.counts == {"lines with broken quotes, which were read all the same": 1}


def test_the_format_is_known_without_a_suffix(tmp_path: Path) -> None:
    expected = {
        "jsonl": "jsonl", "table": "csv", "semicolons": "csv", "semeval14": "semeval", "semeval16": "semeval",
        "aste": "tuples", "tasd": "tuples", "asqp": "tuples", "acos": "acos", "terms": "apc",
    }  # fmt: skip
    for name, make in SAMPLES.items():
        path = tmp_path / f"{name.replace('.', '_')}_file"
        path.write_text(make(), encoding="utf-8")
        found = read_file(path).format
        assert found in FORMATS
        if (stem := name.split(".")[0]) in expected and name != "terms.txt.atepc":
            assert found.startswith(expected[stem].replace("csv", "table"))


def test_files_of_windows_are_read(tmp_path: Path) -> None:
    for name in SAMPLES:
        plain = read_labels(label_samples.write(tmp_path, name))
        (tmp_path / name).write_bytes(b"\xef\xbb\xbf" + SAMPLES[name]().replace("\n", "\r\n").encode())
        assert read_labels(tmp_path / name).parts == plain.parts, name


def test_a_file_without_labels_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FsaError, match="without a label"):
        _read(tmp_path, '{"text": "Good tea ."}\n{"text": "Good ale ."}\n', "own.jsonl")
