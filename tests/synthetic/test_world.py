"""The generated world: repeatable, labelled exactly, and consistent with its stars."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fsa_base.errors import SettingError
from fsa_jax.synthetic.clauses import zipf
from fsa_jax.synthetic.grammar import Difficulty, Passage, Style, draw_sentence
from fsa_jax.synthetic.lexicon import Domain, facts, terms, words
from fsa_jax.synthetic.world import DOMAINS, KnownReview, SplitSizes, draw_labelled, draw_reviews, stars

seeds = st.integers(0, 2**32)
domains = st.sampled_from(DOMAINS)


def check_places(text: str, opinions) -> None:
    for opinion in opinions:
        if opinion.target is None:
            assert opinion.start is None and opinion.end is None
        else:
            assert text[opinion.start : opinion.end] == opinion.target
            assert opinion.target == opinion.target.strip()
        for start, end in opinion.opinion_words:
            assert 0 <= start < end <= len(text)
            assert text[start:end] == text[start:end].strip()


@settings(max_examples=150)
@given(seeds, domains, st.sampled_from(["easy", "hard"]), st.booleans(), st.sampled_from([0.0, 0.3, 1.0]))
def test_the_offsets_of_targets_and_opinion_words_are_right(seed, domain, difficulty, capitals, typos):
    passage = draw_sentence(random.Random(seed), domain, difficulty, Style(capitals, typos))
    assert passage.opinions
    check_places(passage.text, passage.opinions)
    assert "{" not in passage.text and "[" not in passage.text
    places = [opinion.start for opinion in passage.opinions if opinion.start is not None]
    assert places == sorted(set(places)) and len(places) == len(passage.opinions)


@settings(max_examples=20)
@given(seeds)
def test_reviews_are_labelled_exactly_and_repeatable(seed):
    reviews = list(draw_reviews(seed, 20))
    assert reviews == list(draw_reviews(seed, 20))
    assert reviews[:7] == list(draw_reviews(seed, 7)), "fewer reviews are the first of more"
    for known in reviews:
        assert known.opinions
        check_places(known.review.text, known.opinions)
        assert sum(opinion.target is None for opinion in known.opinions) <= 1


def test_another_seed_is_another_world():
    assert [k.review.text for k in draw_reviews(0, 5)] != [k.review.text for k in draw_reviews(1, 5)]


def one_polarity(passage: Passage) -> bool:
    return len({opinion.draft.polarity for opinion in passage.opinions}) <= 1


@pytest.mark.parametrize("domain", DOMAINS, ids=lambda domain: domain.name)
def test_easy_sentences_are_explicit_and_of_one_polarity_and_hard_ones_are_not(domain: Domain):
    drawn: dict[Difficulty, list[Passage]] = {
        difficulty: [draw_sentence(random.Random(n), domain, difficulty, Style()) for n in range(400)]
        for difficulty in ("easy", "hard")
    }
    for passage in drawn["easy"]:
        assert one_polarity(passage)
        assert all(opinion.opinion_words for opinion in passage.opinions)
    manners = Counter(opinion.draft.manner for passage in drawn["hard"] for opinion in passage.opinions)
    assert set(manners) >= {"direct", "attitude", "negated", "wished", "compared", "implicit", "ironic"}
    for passage in drawn["hard"]:
        plain = all(opinion.draft.manner in ("direct", "attitude") for opinion in passage.opinions)
        assert not (plain and one_polarity(passage))
    for passage in drawn["hard"]:
        for opinion in passage.opinions:
            assert bool(opinion.opinion_words) == (opinion.draft.manner not in ("implicit", "ironic"))


def opinions_of(known: KnownReview) -> set[str]:
    return {opinion.draft.polarity for opinion in known.opinions}


def test_stars_follow_from_the_opinions():
    rated = Counter()
    for known in draw_reviews(3, 600):
        value = known.review.stars
        assert value is not None and 1 <= value <= 5
        rated[value] += 1
        if opinions_of(known) == {"positive"}:
            assert value >= 4
        if opinions_of(known) == {"negative"}:
            assert value <= 2
        assert value == stars(known.opinions)
    assert set(rated) == {1, 2, 3, 4, 5}


def test_stars_without_opinions_are_in_the_middle():
    assert stars(()) == 3


def test_a_word_may_have_different_polarities_for_different_facets():
    valences: dict[str, set[str]] = {}
    for domain in DOMAINS:
        for facet in domain.facets:
            for valence, members in facet.words.items():
                for word in members:
                    valences.setdefault(word.text, set()).add(valence)
    assert {"positive", "negative"} <= valences["cold"]
    assert {"positive", "negative"} <= valences["hot"]


@settings(max_examples=4)
@given(st.integers(0, 1000), domains, st.booleans())
def test_splits_are_disjoint_and_of_their_sizes(seed, domain, with_categories):
    sizes = SplitSizes(train=40, dev=30, test=20, hard_test=25)
    splits = draw_labelled(seed, "any", domain, sizes, with_categories)
    assert {split: len(passages) for split, passages in splits.items()} == vars(sizes)
    texts = [passage.text for passages in splits.values() for passage in passages]
    assert len(set(texts)) == len(texts)
    for passages in splits.values():
        for passage in passages:
            check_places(passage.text, passage.opinions)
            if not with_categories:
                assert all(opinion.target for opinion in passage.opinions)
    assert all(one_polarity(passage) for passage in splits["test"])


def test_withheld_sentences_occur_in_no_review():
    plain = {known.review.text for known in draw_reviews(0, 40)}
    single = {text for text in plain if text.count(". ") == 0 and text.count("! ") == 0}
    assert single
    again = [known.review.text for known in draw_reviews(0, 40, withheld=single)]
    assert not single & set(again)


def test_a_split_without_sentences_is_refused():
    with pytest.raises(SettingError, match="sentences of dev"):
        SplitSizes(dev=0)


def test_few_labels_cover_little_of_the_content_of_reviews():
    """This is why distillation can help."""

    def implicit_clauses(texts: list[str]) -> set[str]:
        tails = [fact.clause.split("}")[-1].strip() for f in DOMAINS[0].facets for v in f.facts.values() for fact in v]
        return {tail for tail in tails if len(tail) > 12 and any(tail in text.lower() for text in texts)}

    train = draw_labelled(0, "atsa/rest14", DOMAINS[0], SplitSizes(train=300), False)["train"]
    reviews = [known.review.text for known in draw_reviews(0, 3000)]
    from_labels, from_reviews = (implicit_clauses(texts) for texts in ([p.text for p in train], reviews))
    assert len(from_labels) < 0.7 * len(from_reviews)


@given(seeds, st.integers(1, 200))
def test_zipf_prefers_low_ranks_and_reaches_all(seed, count):
    rng = random.Random(seed)
    drawn = [zipf(rng, range(count)) for _ in range(50)]
    assert all(0 <= item < count for item in drawn)


def test_zipf_falls_with_rank():
    rng = random.Random(0)
    counts = Counter(zipf(rng, range(20)) for _ in range(20_000))
    assert counts[0] > 1.5 * counts[10] > 1.5 * counts[19] > 0


def test_notation_of_the_lexicon():
    assert [(t.text, t.plural) for t in terms("pasta, crab cakes+")] == [("pasta", False), ("crab cakes", True)]
    assert [(w.text, w.strong) for w in words("tasty, superb!")] == [("tasty", False), ("superb", True)]
    (fact,) = facts("\n  i sent the {t} back = the food is bad!\n")
    assert (fact.clause, fact.meaning, fact.strong) == ("i sent the {t} back", "the food is bad", True)
