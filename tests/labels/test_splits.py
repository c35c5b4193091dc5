from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fsa_base.errors import DataError
from fsa_jax.labels.dataset import read_labels
from fsa_jax.labels.sources import files_of, part_of
from fsa_jax.labels.splits import SIMILAR, near_identical_groups, split_groups
from fsa_jax.text.words import normalise

_texts = st.lists(st.lists(st.sampled_from("abcdefgh"), min_size=0, max_size=8).map(" ".join), min_size=1, max_size=25)


def _groups_by_all_pairs(texts: list[str]) -> list[int]:
    """The same groups, by comparing all pairs."""
    words = [frozenset(normalise(text).split()) for text in texts]
    group = list(range(len(texts)))
    for i in range(len(texts)):
        for j in range(i):
            both, either = len(words[i] & words[j]), len(words[i] | words[j])
            if words[i] == words[j] or (either and both >= SIMILAR * either):
                low, high = sorted((group[i], group[j]))
                group = [low if found == high else found for found in group]
    return group


@settings(max_examples=300, deadline=None)
@given(_texts)
def test_all_near_identical_texts_are_found(texts: list[str]) -> None:
    assert near_identical_groups(texts) == _groups_by_all_pairs(texts)


def test_case_and_punctuation_do_not_matter() -> None:
    texts = ["The bread was good!", "the bread, was GOOD", "The staff was rude .", "The bread was really good."]
    assert near_identical_groups(texts) == [0, 0, 2, 0]


@given(_texts, st.integers(0, 5))
def test_no_group_is_in_two_parts(texts: list[str], seed: int) -> None:
    groups = near_identical_groups(texts)
    parts = split_groups(groups, texts, [True] * len(texts), [0.8, 0.1, 0.1], seed)
    assert all(parts[i] == parts[j] for i in range(len(texts)) for j in range(i) if groups[i] == groups[j])
    if len(set(groups)) >= 3:
        assert {1, 2} <= set(parts)


def test_the_shares_are_kept_and_the_seed_decides() -> None:
    texts = [f"word{number} other{number}" for number in range(1000)]
    groups = near_identical_groups(texts)
    parts = split_groups(groups, texts, [True] * 1000, [0.8, 0.1, 0.1], 3)
    assert [parts.count(part) for part in range(3)] == [800, 100, 100]
    assert parts == split_groups(groups, texts, [True] * 1000, [0.8, 0.1, 0.1], 3)
    assert parts != split_groups(groups, texts, [True] * 1000, [0.8, 0.1, 0.1], 4)
    other_order = split_groups(groups, texts[::-1], [True] * 1000, [0.8, 0.1, 0.1], 3)
    assert other_order[::-1] == parts


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("train.txt", "train"),
        ("Restaurants_Train_v2.xml", "train"),
        ("ABSA16_Restaurants_Train_SB1_v2.xml", "train"),
        ("EN_REST_SB1_TEST.xml.gold", "test"),
        ("laptop_quad_dev.tsv", "dev"),
        ("val.xml", "dev"),
        ("custom.valid.txt.atepc", "dev"),
        ("test_triplets.txt", "test"),
        ("restTrain.csv", "train"),
        ("hard_test.json", None),
        ("trainer_notes.txt", None),
        ("reviews.csv", None),
    ],
)
def test_the_part_by_the_name_of_the_file(name: str, part: str | None) -> None:
    assert part_of(name) == part


def _folder(folder: Path, *names: str) -> Path:
    folder.mkdir()
    for number, name in enumerate(names):
        lines = [f"word{number} same{line} has bread####[['bread', 'food', 'positive']]\n" for line in range(20)]
        (folder / name).write_text("".join(lines))
    return folder


def test_parts_with_files_are_kept_and_the_others_are_made(tmp_path: Path) -> None:
    whole = read_labels(_folder(tmp_path / "whole", "train.txt", "val.txt", "test.txt", "notes.md"))
    assert {part: len(rows) for part, rows in whole.parts.items()} == {"train": 20, "dev": 20, "test": 20}
    assert whole.made == ()
    assert whole.other_files == ["notes.md"]
    without_dev = read_labels(_folder(tmp_path / "without", "train.txt", "test.txt"))
    assert {part: len(rows) for part, rows in without_dev.parts.items()} == {"train": 18, "dev": 2, "test": 20}
    assert without_dev.made == ("dev",)
    one = read_labels(_folder(tmp_path / "one", "reviews.txt"))
    assert {part: len(rows) for part, rows in one.parts.items()} == {"train": 16, "dev": 2, "test": 2}
    assert read_labels(tmp_path / "one" / "reviews.txt").parts == one.parts
    assert read_labels(tmp_path / "one", seed=1).parts != one.parts


def test_sentences_of_train_in_other_parts_are_counted(tmp_path: Path) -> None:
    folder = _folder(tmp_path / "x", "train.txt", "dev.txt", "test.txt")
    (folder / "test.txt").write_text((folder / "train.txt").read_text())
    assert read_labels(folder).in_several_parts == {"test": 20}


def test_folders_that_cannot_be_understood(tmp_path: Path) -> None:
    two = _folder(tmp_path / "two", "train_a.txt", "train_b.txt")
    with pytest.raises(DataError, match=r"one file for train.*train_a.txt, train_b.txt"):
        files_of(two)
    (tmp_path / "languages" / "en").mkdir(parents=True)
    with pytest.raises(DataError, match="en/"):
        files_of(tmp_path / "languages")
    with pytest.raises(DataError, match="found nothing"):
        files_of(tmp_path / "missing")
    short = tmp_path / "short.txt"
    short.write_text("good bread####[['bread', 'food', 'positive']]\nGood bread!####[['bread', 'food', 'positive']]\n")
    with pytest.raises(DataError, match="too few"):
        read_labels(short)
