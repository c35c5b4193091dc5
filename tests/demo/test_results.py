"""The results of the demo and their presentation."""

from __future__ import annotations

import pytest

from fsa_base.errors import SettingError
from fsa_jax.common.records import LabelledAspect, LabelledSentence
from fsa_jax.demo.page import Circumstances, Lesson, claim, page, table
from fsa_jax.demo.results import ARMS, Results, Trial, best_rate, compare, score_run
from fsa_jax.demo.settings import DemoSettings
from fsa_jax.evaluation.report import render

SETTINGS = DemoSettings(learning_rates=(1e-3, 3e-3), seeds=(1, 2))


def sentence(number: int, hard: bool) -> LabelledSentence:
    polarities = ("positive", "negative") if hard else ("positive", "positive")
    aspects = tuple(
        LabelledAspect(target=target, polarity=polarity, opinion_words=() if hard else ("nice",))
        for target, polarity in zip((f"soup{number}", f"staff{number}"), polarities, strict=True)
    )
    return LabelledSentence(id=str(number), text=f"soup{number} and staff{number} <b>", aspects=aspects, hard=hard)


SENTENCES = [sentence(number, hard=number >= 10) for number in range(20)]
GOLD = [[(str(a.target), str(a.polarity)) for a in s.aspects] for s in SENTENCES]
HALF = [pairs[:1] for pairs in GOLD]


def measured(scratch, distilled) -> Results:
    runs = {
        "scratch": [score_run("scratch", 3e-3, seed, SENTENCES, scratch) for seed in SETTINGS.seeds],
        "distilled": [score_run("distilled", 1e-3, seed, SENTENCES, distilled) for seed in SETTINGS.seeds],
    }
    trials = [
        Trial(arm=arm, seed=seed, learning_rate=rate, curve=((50, 20.0), (100, 30.0 + 1000 * rate)))
        for arm in ARMS
        for rate in SETTINGS.learning_rates
        for seed in SETTINGS.seeds
    ]
    return Results(
        runs=tuple(run for arm in ARMS for run in runs[arm]),
        trials=tuple(trials),
        gains=compare(SENTENCES, runs, seed=0),
        counts={"original": 10, "hard": 10, "implicit": 10, "multi": 10},
        distillation=((10, 3.0), (20, 1.0)),
    )


def test_scores_by_subset():
    run = score_run("distilled", 1e-3, 1, SENTENCES, [*GOLD[:10], *HALF[10:]])
    assert run.f1["original"] == 100
    assert run.f1["hard"] == pytest.approx(100 * 2 / 3)
    assert run.f1["hard"] == run.f1["implicit"] == run.f1["multi"]


def test_the_claim_gives_the_direction_of_the_result():
    assert "beats" in claim(measured(HALF, GOLD), SETTINGS)
    assert "falls behind" in claim(measured(GOLD, HALF), SETTINGS)
    assert "cannot be told apart" in claim(measured(GOLD, GOLD), SETTINGS)
    assert "66.7" in claim(measured(HALF, GOLD), SETTINGS)


def test_the_table_marks_the_better_and_gives_the_interval():
    shown = table(measured(HALF, GOLD))
    assert [row[0].text for row in shown.rows] == ["from scratch", "distilled", "gain", "95 % interval"]
    assert shown.rows[1][2].text == "100.0 ± 0.0" and shown.rows[1][2].strong and not shown.rows[0][2].strong
    assert shown.rows[2][2].text == "+33.3"
    assert shown.columns[2] == "hard (n=10)"


def test_results_are_the_same_after_saving_and_loading():
    results = measured(HALF, GOLD)
    assert Results.model_validate_json(results.model_dump_json()) == results


def test_the_page_is_escaped_and_complete():
    circumstances = Circumstances("fsa demo --out x", "today", (("jax", "1"),), (("cores", "2"),), (("a", 60.0),), 1000)
    lesson = Lesson("a <i>review", 4.0, 'Opinion Target 1: "x"', "I like <x>")
    html = render(page(measured(HALF, GOLD), SETTINGS, SENTENCES, lesson, circumstances))
    assert "<b>" not in html and "&lt;b&gt;" in html
    assert "a &lt;i&gt;review" in html and "I like &lt;x&gt;" in html
    assert html.count("<img") == 4
    for text in ("fsa demo --out x", "learning rates", "0.001, 0.003", "1,000 parameters", "1.0 minutes", "jax"):
        assert text in html


def test_the_search_takes_the_best_dev_score_and_the_smaller_rate_of_equals():
    def trial(arm, rate, f1):
        return Trial(arm=arm, seed=1, learning_rate=rate, curve=((1, 99.0), (2, f1)))

    trials = [trial("scratch", 1e-2, 50.0), trial("scratch", 1e-3, 50.0), trial("scratch", 1e-4, 40.0)]
    assert best_rate([*trials, trial("distilled", 1.0, 90.0)], "scratch") == 1e-3


@pytest.mark.parametrize(
    "change",
    [
        {"reviews": 10},
        {"labelled_sentences": 0},
        {"test_sentences": -1},
        {"mistake_rate": 1.5},
        {"hallucination_rate": -0.1},
        {"vocabulary_rows": 1500},
        {"distillation_steps": 0},
        {"learning_rates": ()},
        {"learning_rates": (0.0, 1e-3)},
        {"seeds": (1, 1)},
    ],
    ids=str,
)
def test_unusable_sizes_are_refused_by_the_name_of_their_option(change):
    option = f"--{next(iter(change)).replace('_', '-')}"
    with pytest.raises(SettingError, match=option):
        SETTINGS.model_copy(update=change).check()


def test_the_defaults_are_usable():
    assert DemoSettings().check().pieces == 1435
