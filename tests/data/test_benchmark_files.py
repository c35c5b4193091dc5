from __future__ import annotations

import json

import pytest

from fsa_base.errors import DataError, MissingDataError
from fsa_jax.common.records import LabelledAspect
from fsa_jax.data import benchmark_files

ASPECT = {"from": "4", "to": "9", "target": "bread", "category": None, "polarity": "positive"}
SENTENCE = {"ID": 7, "sentence": "The bread and the staff.", "aspects": [ASPECT]}


def _write(path, rows, encoding="utf-8-sig"):
    path.write_text(rows if isinstance(rows, str) else json.dumps(rows, indent=1, ensure_ascii=False), encoding)
    return path


def _with(**changes):
    return [SENTENCE, {**SENTENCE, "aspects": [{**ASPECT, **changes}]}]


def _without(key):
    return [SENTENCE, {**SENTENCE, "aspects": [{name: value for name, value in ASPECT.items() if name != key}]}]


def test_surprises_of_the_format(tmp_path):
    rows = [
        {
            "ID": "1:2",
            "sentence": "The bread – and the “staff”.",
            "aspects": [
                {**ASPECT, "opinion_words": "top notch"},
                {
                    "from": 21,
                    "to": 26,
                    "target": "staff",
                    "category": "S#G",
                    "polarity": "conflict",
                    "opinion_words": [],
                },
                {**ASPECT, "from": "0", "to": "0", "target": "NULL", "opinion_words": None},
                {**ASPECT, "from": None, "to": None, "target": None},
                {**ASPECT, "opinion_words": [{"from": 0, "to": 3, "opinion": "The"}]},
            ],
            "aspects2": ["ignored"],
        }
    ]
    expected = (
        LabelledAspect(
            target="bread", polarity="positive", start=4, end=9, opinion_words=("top notch",), offsets_as_text=True
        ),
        LabelledAspect(target="staff", category="S#G", polarity="conflict", start=21, end=26, opinion_words=()),
        LabelledAspect(polarity="positive", opinion_words=()),
        LabelledAspect(polarity="positive"),
        LabelledAspect(
            target="bread", polarity="positive", start=4, end=9, opinion_words=("The",), offsets_as_text=True
        ),
    )
    for encoding in ("utf-8", "utf-8-sig"):
        (sentence,) = benchmark_files.load(_write(tmp_path / "test.json", rows, encoding))
        assert (sentence.id, sentence.text, sentence.hard) == ("1:2", rows[0]["sentence"], False)
        assert sentence.aspects == expected
    assert benchmark_files.load(_write(tmp_path / "hard_test.json", rows))[0].hard


@pytest.mark.parametrize(
    ("rows", "line", "says"),
    [
        (json.dumps([SENTENCE], indent=1)[:-20], 11, "valid JSON"),
        ("", 1, "valid JSON"),
        ([], 1, "at least one sentence"),
        ({"data": [SENTENCE]}, 1, "a list of sentences"),
        ([SENTENCE, "text"], 15, "a sentence as a JSON object"),
        ([SENTENCE, {"ID": 1, "aspects": []}], 15, "'sentence'"),
        ([SENTENCE, {**SENTENCE, "sentence": None}], 15, "a sentence's text"),
        ([SENTENCE, {**SENTENCE, "aspects": None}], 15, "a list of aspects"),
        (_without("polarity"), 15, "'polarity'"),
        (_without("from"), 15, "'from'"),
        (_without("target"), 15, "'target'"),
        (_with(polarity="Positive"), 15, "'Positive'"),
        (_with(polarity=["positive"]), 15, "a polarity of"),
        (_with(target="breads"), 15, "'breads'"),
        (_with(target=3), 15, "a target or null"),
        (_with(category=3), 15, "a category or null"),
        (_with(**{"from": "4.5"}), 15, "a character offset"),
        (_with(**{"to": -1}), 15, "a character offset"),
        (_with(opinion_words=[3]), 15, "opinion words"),
        (_with(**{"to": 10**400}), 15, "a character offset"),
        (_with(**{"to": "9" * 5000}), 15, "a character offset"),
        ([SENTENCE, {**SENTENCE, "ID": [1]}], 15, "an ID"),
        ([SENTENCE, {**SENTENCE, "ID": None}], 15, "an ID"),
        (json.dumps([SENTENCE], indent=1)[:-2] + ",\n" + "[" * 100_000, 15, "nested more than 100 deep"),
        (json.dumps([SENTENCE], indent=1)[:-2] + ",\n" + "[" * 500 + "]" * 500 + "]", 15, "nested more than 100 deep"),
        ("[" * 100_000, 1, "nested more than 100 deep"),
        ('{"a":' * 100_000, 1, "deep JSON"),
        (json.dumps([SENTENCE, {**SENTENCE, "sentence": "\ud800 bread"}], indent=1), 15, "half a surrogate pair"),
        (json.dumps([SENTENCE], indent=1)[:-2] + ',\n{"ID": ' + "9" * 6000 + "}]", 15, "4300 digits"),
        (json.dumps([SENTENCE], indent=1)[:-2] + ',\n{"ID": 1, "aspects": [], "aspects": []}]', 15, "a repeated key"),
        (json.dumps([SENTENCE], indent=1) + "\n[]", 16, "Extra data"),
        (json.dumps([SENTENCE], indent=1)[:-2] + "\n{}]", 15, "valid JSON"),
    ],
)
def test_bad_input_names_file_and_line(tmp_path, rows, line, says):
    path = _write(tmp_path / "dev.json", rows)
    with pytest.raises(DataError) as caught:
        benchmark_files.load(path)
    sentence = " (sentence 2" if line == 15 and "valid JSON" not in caught.value.expected else ""
    assert caught.value.where.startswith(f"{path}:{line}{sentence}")
    assert says in str(caught.value) and "labels of your own" in caught.value.fix


@pytest.mark.parametrize(
    ("kind", "row", "aspect"),
    [
        (
            "atsa",
            {"sentence": "Good bread.", "aspects": [{"target": "bread", "polarity": "positive"}]},
            LabelledAspect(target="bread", polarity="positive", start=5, end=10),
        ),
        (
            "acsa",
            {"sentence": "Good bread.", "aspects": [{"category": "food", "polarity": "positive"}]},
            LabelledAspect(category="food", polarity="positive"),
        ),
    ],
)
def test_labels_of_ones_own_need_only_what_their_kind_needs(tmp_path, kind, row, aspect):
    folder = tmp_path / kind / "mine"
    folder.mkdir(parents=True)
    sentences = benchmark_files.load(_write(folder / "train.json", [row, row]))
    assert [sentence.id for sentence in sentences] == ["1", "2"] and sentences[0].aspects == (aspect,)
    del row["aspects"][0]["target" if kind == "atsa" else "category"]
    path = _write(folder / "dev.json", json.dumps([{**row, "aspects": []}, {**row, "ID": "b7"}]))
    with pytest.raises(DataError, match=r"the key '(target|category)' in an aspect.*\n.*labels of your own") as caught:
        benchmark_files.load(path)
    assert caught.value.where == f"{path}:1 (sentence 2, ID b7)"


def test_a_file_that_is_not_text(tmp_path):
    (tmp_path / "dev.json").write_bytes(b'[\n{"ID": "\xff\xfe"}]')
    with pytest.raises(DataError, match=r"dev\.json:2: expected UTF-8"):
        benchmark_files.load(tmp_path / "dev.json")


def test_a_missing_file_says_how_to_get_it(tmp_path):
    with pytest.raises(MissingDataError, match="git clone"):
        benchmark_files.load(tmp_path / "atsa" / "rest14" / "dev.json")
    with pytest.raises(MissingDataError, match="labels of your own"):
        benchmark_files.load(tmp_path / "atsa" / "mine" / "dev.json")


def test_real_offsets_are_kept_as_released(real_data_dir):
    """docs/data.md gives the number of wrong offsets in laptop14; the offsets in all other files are right."""
    missed = {}
    for path in sorted((real_data_dir / "fsa").glob("*/*/*.json")):
        missed[str(path.relative_to(real_data_dir / "fsa"))] = sum(
            sentence.text[aspect.start : aspect.end] != aspect.target
            for sentence in benchmark_files.load(path)
            for aspect in sentence.aspects
            if aspect.target
        )
    assert {name: count for name, count in missed.items() if count} == {
        "atsa/laptop14/dev.json": 15,
        "atsa/laptop14/train.json": 88,
    }
