from __future__ import annotations

import json

import pytest

from fsa_base.errors import DataError, MissingDataError, SettingError
from fsa_jax.data import teacher_text

ANALYSIS = 'Opinion Target 1: "tea"\nSentiment: Positive'


@pytest.fixture
def corpus(tmp_path, monkeypatch):
    """Writes files of teacher text; rows are (id, response) pairs or whole lines."""
    monkeypatch.setenv("FSA_DATA_DIR", str(tmp_path))
    for variable in (teacher_text.HELD_OUT_VARIABLE, teacher_text.HELD_OUT_SEED_VARIABLE):
        monkeypatch.delenv(variable, raising=False)

    def write(rows, name="a.jsonl", key="mixtral_response", encoding="utf-8-sig"):
        (tmp_path / "teacher").mkdir(exist_ok=True)
        path = tmp_path / "teacher" / name
        lines = [
            row
            if isinstance(row, str)
            else json.dumps({"ID": row[0], "Text": f"No. {row[0]}", "Overall": 3, key: row[1]})
            for row in rows
        ]
        path.write_text("\n".join(lines) + "\n", encoding)
        return path

    return write


def _both(numbers):
    return [(number, response) for number in numbers for response in (ANALYSIS, "I liked it.")]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_rows(corpus, encoding):
    path = corpus(
        [(7, ANALYSIS), "", ("b", " I enjoyed tea.\n"), (9, None), (10, " ")], key="llama2_response", encoding=encoding
    )
    rows = list(teacher_text.read(path, file_number=1))
    assert [(row.review_id, row.understanding, row.response) for row in rows] == [
        ("7", "analysis", ANALYSIS),
        ("b", "rewriting", " I enjoyed tea.\n"),
    ]
    assert [row.number - 2**40 for row in rows] == [1, 3]
    assert rows[0].review == "No. 7"


def test_files_in_the_order_of_their_names(corpus):
    corpus([(1, "x")], "b.jsonl")
    corpus([(1, "x")], "a.jsonl")
    assert [path.name for path in teacher_text.files()] == ["a.jsonl", "b.jsonl"]


def test_no_teacher_text_says_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.setenv("FSA_DATA_DIR", str(tmp_path))
    with pytest.raises(MissingDataError, match="git clone"):
        teacher_text.files()


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ('{"ID": 1, "Text": "a", "mixtral_resp', "JSON object"),
        ("[1, 2]", "JSON object"),
        ('{"ID": 1, "Text": "a"}', "ID, Text and one TEACHER_response"),
        ('{"ID": 1, "mixtral_response": "a"}', "ID, Text and one TEACHER_response"),
        ('{"ID": 1, "Text": "a", "a_response": "a", "b_response": "b"}', "one TEACHER_response"),
        ('{"ID": 1, "Text": 3, "a_response": "a"}', "text under Text"),
        ('{"ID": 1, "Text": "a", "a_response": ["a"]}', "text under Text"),
    ],
)
def test_bad_lines_are_named(corpus, line, says):
    path = corpus([(1, "x"), line])
    with pytest.raises(DataError) as caught:
        teacher_text.index(teacher_text.files())
    assert caught.value.where == f"{path}:2"
    assert says in str(caught.value)


def test_an_empty_file_and_one_that_is_not_text(corpus):
    path = corpus([])
    with pytest.raises(DataError, match="at least one row"):
        list(teacher_text.read(path))
    path.write_bytes(b'{"ID": 1, "Text": "\xff"}\n')
    with pytest.raises(DataError, match=r"a.jsonl:\d+: expected UTF-8"):
        list(teacher_text.read(path))


def _splits(paths):
    held_out = teacher_text.index(paths).held_out
    rows = [row for path in paths for row in teacher_text.read(path)]
    splits = {row.review_id: held_out.split_of(row.review) for row in rows}
    for split in ("train", "validation"):
        for form in ("analysis", "rewriting"):
            count = sum(splits[row.review_id] == split and row.understanding == form for row in rows)
            assert held_out.rows[split, form] == count
    return splits


def test_a_tenth_is_held_out_by_review(corpus):
    corpus(_both(range(0, 100, 2)), "a.jsonl")
    corpus(_both(range(1, 100, 2)) + _both(range(0, 20)), "b.jsonl")
    splits = _splits(teacher_text.files())
    held = teacher_text.index(teacher_text.files()).held_out
    assert 20 <= held.rows["validation", "analysis"] + held.rows["validation", "rewriting"] <= 24
    assert set(splits.values()) == {"train", "validation"}


def test_the_limit_and_the_seed_of_held_out_rows(corpus, monkeypatch):
    corpus(_both(range(300)))
    monkeypatch.setenv("FSA_HELD_OUT", "10")
    first = _splits(teacher_text.files())
    assert sum(split == "validation" for split in first.values()) == 5
    corpus(reversed(_both(range(300))))
    assert _splits(teacher_text.files()) == first
    monkeypatch.setenv("FSA_HELD_OUT_SEED", "1")
    assert _splits(teacher_text.files()) != first
    monkeypatch.setenv("FSA_HELD_OUT", "0")
    assert set(_splits(teacher_text.files()).values()) == {"train"}


def test_a_small_corpus_holds_out_one_of_each_form(corpus):
    corpus([(number, ANALYSIS if number % 2 else "I liked it.") for number in range(16)])
    held = teacher_text.index(teacher_text.files()).held_out
    assert (held.rows["validation", "analysis"], held.rows["validation", "rewriting"]) == (1, 1)


def test_a_setting_that_is_not_a_number(corpus, monkeypatch):
    corpus([(1, "x")])
    monkeypatch.setenv("FSA_HELD_OUT", "-3")
    with pytest.raises(SettingError, match="FSA_HELD_OUT"):
        teacher_text.index(teacher_text.files())


def test_real_teacher_text(real_data_dir, monkeypatch):
    monkeypatch.setenv("FSA_DATA_DIR", str(real_data_dir))
    splits = _splits(teacher_text.files())
    held = teacher_text.index(teacher_text.files()).held_out
    assert sum(held.rows.values()) == len(splits) == 400
    assert held.rows["validation", "analysis"] + held.rows["validation", "rewriting"] == 40
