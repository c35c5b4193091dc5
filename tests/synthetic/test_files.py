"""The files of the synthetic world: the project's readers read from them exactly what the world contains."""

from __future__ import annotations

import json

import pytest

from fsa_jax.data import benchmark_files, teacher_text
from fsa_jax.evaluation.subsets import select
from fsa_jax.synthetic.files import DATASETS, TEACHER_FILE, generate
from fsa_jax.synthetic.oracle import Oracle
from fsa_jax.synthetic.world import SplitSizes, draw_labelled, draw_reviews
from fsa_jax.text import analysis
from fsa_jax.text.pairs import ATSA

SIZES = SplitSizes(train=30, dev=20, test=40, hard_test=40)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    directory = tmp_path_factory.mktemp("world")
    generate(directory, seed=4, reviews=60, sizes=SIZES, oracle=Oracle())
    return directory


@pytest.mark.parametrize(("name", "domain"), DATASETS, ids=[name for name, _ in DATASETS])
def test_labelled_sentences_are_read_back_unchanged(world, name, domain):
    with_categories = name.startswith("acsa/")
    drawn = draw_labelled(4, name, domain, SIZES, with_categories)
    for split, passages in drawn.items():
        path = world / "fsa" / name / f"{split}.json"
        assert path.read_bytes().startswith(b"\xef\xbb\xbf"), "as released: with a byte-order mark"
        sentences = benchmark_files.load(path)
        assert [sentence.text for sentence in sentences] == [passage.text for passage in passages]
        for sentence, passage in zip(sentences, passages, strict=True):
            assert sentence.hard == (split == "hard_test")
            assert len(sentence.aspects) == len(passage.opinions)
            for aspect, known in zip(sentence.aspects, passage.opinions, strict=True):
                assert (aspect.target, aspect.start, aspect.end) == (known.target, known.start, known.end)
                assert aspect.polarity == known.draft.polarity
                assert (aspect.category is not None) == with_categories
                if split in ("test", "hard_test"):
                    assert len(aspect.opinion_words or ()) == len(known.opinion_words)
                else:
                    assert aspect.opinion_words is None


def test_pairs_are_unchanged_by_the_codec(world):
    for sentence in benchmark_files.load(world / "fsa" / "atsa" / "rest14" / "hard_test.json"):
        pairs = ATSA.decode(ATSA.encode(sentence), sentence.text)
        assert pairs == [(aspect.target, aspect.polarity) for aspect in sentence.aspects]


def test_every_subset_of_the_paper_has_sentences(world):
    folder = world / "fsa" / "atsa" / "laptop14"
    test = [*benchmark_files.load(folder / "test.json"), *benchmark_files.load(folder / "hard_test.json")]
    for subset in ("original", "hard", "implicit", "multi"):
        assert select(test, subset)


def test_teacher_text_reads_back_as_the_known_opinions(world):
    rows = list(teacher_text.read(world / TEACHER_FILE))
    assert len(rows) == 120
    known = {review.review.id: review for review in draw_reviews(4, 60, _withheld(world))}
    for row in rows:
        assert row.review == known[row.review_id].review.text
        if row.understanding == "analysis":
            targets = [parsed.opinion.target for parsed in analysis.parse(row.response).opinions]
            review = known[row.review_id]
            assert targets == [opinion.target or review.domain.whole for opinion in review.opinions]
    assert sum(row.understanding == "analysis" for row in rows) == 60


def test_reviews_are_written_as_records(world):
    lines = (world / "reviews" / "reviews.jsonl").read_text().splitlines()
    assert len(lines) == 60
    assert set(json.loads(lines[0])) == {"id", "text", "stars", "domain"}


def _withheld(world) -> set[str]:
    return {
        sentence.text
        for name, _ in DATASETS
        for split in ("dev", "test", "hard_test")
        for sentence in benchmark_files.load(world / "fsa" / name / f"{split}.json")
        if any(aspect.target for aspect in sentence.aspects)
    }


def test_no_dev_or_test_sentence_occurs_in_a_review(world):
    reviews = [json.loads(line)["text"] for line in (world / "reviews" / "reviews.jsonl").read_text().splitlines()]
    withheld = _withheld(world)
    assert withheld
    assert not [text for text in reviews for sentence in withheld if text == sentence]


def test_a_review_without_found_opinions_gets_no_analysis(tmp_path):
    oracle = Oracle(seed=0, mistake_rate=1.0)
    generate(tmp_path, seed=1, reviews=40, sizes=SplitSizes(2, 2, 2, 2), oracle=oracle)
    rows = [json.loads(line) for line in (tmp_path / TEACHER_FILE).read_text("utf-8-sig").splitlines()]
    assert len(rows) < 80
    assert all(row["oracle_response"].strip() for row in rows)


def test_the_same_seed_writes_the_same_bytes(tmp_path):
    for name in ("a", "b"):
        generate(tmp_path / name, seed=9, reviews=30, sizes=SplitSizes(3, 3, 3, 3), oracle=Oracle(9, 0.2, 0.2))
    files = sorted(path.relative_to(tmp_path / "a") for path in (tmp_path / "a").rglob("*") if path.is_file())
    assert len(files) == 18
    for file in files:
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()
