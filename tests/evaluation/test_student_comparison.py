"""The comparison of students: numbers against scipy, statsmodels and the released rule; gaps; tables as text."""

from __future__ import annotations

import itertools
import json
import statistics

import numpy as np
import pytest
from comparison_outputs import predictions, write_output, write_run
from scipy import stats
from statsmodels.stats.multitest import multipletests

from fsa_jax.evaluation import comparison_tables
from fsa_jax.evaluation.contestants import find_contestants
from fsa_jax.evaluation.released_rule import tuple_f1
from fsa_jax.evaluation.student_comparison import StudentComparison, compare_students, hedges_g, superiority


@pytest.fixture(scope="module")
def report(tmp_path_factory) -> StudentComparison:
    output = write_output(tmp_path_factory.mktemp("out"), {"a_scratch": 0.3, "distilled": 0.7, "large": 0.72})
    write_run(output, "large", 0.72, 142)
    write_run(output, "distilled", None, 152, error="out of memory")
    write_run(output, "large", 0.7, 42, task="atsa/rest16")
    return compare_students(find_contestants([str(output)]), resamples=300)


def only(report: StudentComparison, first: str, second: str, subset: str = "all", scoring: str = "exact"):
    (found,) = [
        row
        for row in report.comparisons
        if (row.first.name, row.second.name, row.subset, row.scoring) == (first, second, subset, scoring)
    ]
    return found


def test_every_two_students_are_compared_on_every_subset_by_both_rules(report):
    pairs = list(itertools.combinations(["a_scratch", "distilled", "large"], 2))
    subsets = ["all", "original", "hard", "multi"]
    found = [(row.first.name, row.second.name, row.subset, row.scoring) for row in report.comparisons]
    assert found == [(*p, subset, scoring) for p in pairs for subset in subsets for scoring in ("exact", "tolerant")]
    assert report.tests == len(found)


def test_f1_is_that_of_the_released_rule(report):
    row = only(report, "a_scratch", "distilled", "hard")
    for side, skill in ((row.first, 0.3), (row.second, 0.7)):
        expected = []
        for seed in side.seeds:
            chosen = [one for one in predictions(skill, seed or 0) if "hard" in one.subsets]
            expected.append(100 * tuple_f1([one.gold for one in chosen], [one.predicted for one in chosen]).f1)
        assert side.f1 == pytest.approx(expected)
        assert side.mean == pytest.approx(statistics.mean(expected))
        assert side.deviation == pytest.approx(statistics.stdev(expected))
    assert row.difference == pytest.approx(row.second.mean - row.first.mean)
    assert row.low < row.difference < row.high
    assert row.sentences == 14


def test_holm_is_that_of_statsmodels_over_all_tests(report):
    p = [row.p for row in report.comparisons]
    assert [row.p_holm for row in report.comparisons] == pytest.approx(multipletests(p, method="holm")[1])


def test_tolerant_scores_are_higher(report):
    exact, tolerant = (only(report, "distilled", "large", scoring=scoring) for scoring in ("exact", "tolerant"))
    assert tolerant.first.mean > exact.first.mean + 3
    assert tolerant.second.mean > exact.second.mean + 3


def test_what_is_missing_is_reported(report):
    assert [(gap.student, gap.task, gap.seed, gap.kind) for gap in report.gaps] == [
        ("a_scratch", "atsa/rest14", 142, "missing"),
        ("a_scratch", "atsa/rest14", 152, "missing"),
        ("a_scratch", "atsa/rest16", 42, "missing"),
        ("distilled", "atsa/rest14", 142, "missing"),
        ("distilled", "atsa/rest14", 152, "failed"),
        ("distilled", "atsa/rest16", 42, "missing"),
        ("large", "atsa/rest14", 152, "missing"),
    ]
    reasons = {(one.first, one.second, one.task): one.why for one in report.uncompared}
    assert reasons["distilled", "large", "atsa/rest16"] == "distilled has no final run"
    assert reasons["a_scratch", "distilled", "atsa/rest14"] == "no sentence is in the subset implicit"
    assert [line.partition(":")[2] for line in report.unpaired] == [" seeds 42 52 62 and 42 52 62 142"] * 2
    shown = "\n".join(comparison_tables.notes(report))
    for text in ("seed 152: failed: out of memory", "distilled has no final run", "different seeds (allowed)"):
        assert text in shown
    # With 300 resamples no p is small enough for 24 tests.
    assert "use --resamples 480" in shown


def test_the_same_seed_gives_the_same_report(tmp_path):
    students = find_contestants([str(write_output(tmp_path, {"a": 0.4, "b": 0.5}))])
    reports = [compare_students(students, ["all"], ["exact"], 200, seed=seed) for seed in (1, 1, 2)]
    assert reports[0] == reports[1] != reports[2]


def test_identical_students_differ_by_nothing_and_a_clear_difference_is_shown(tmp_path):
    out = write_output(tmp_path, {"a": 0.2, "b": 0.8}, seeds=(1, 2, 3, 4, 5))
    for seed in (1, 2, 3, 4, 5):
        # The predictions depend on the skill and the seed only.
        write_run(out, "c", 0.2, seed)
    found = compare_students(find_contestants([f"{out}:{name}" for name in "acb"]), ["all"], ["exact"], 999)
    same, clear, _ = found.comparisons
    assert (same.difference, same.p, same.p_holm, same.verdict, same.superiority) == (0, 1, 1, "not shown", 0.5)
    assert (same.seeds_needed, same.sentences_needed) == (None, None)
    assert same.given_runs.permutation_p == same.given_runs.mcnemar_p == 1
    assert clear.verdict == "better"
    assert clear.low > 0
    turned = compare_students(find_contestants([f"{out}:b", f"{out}:a"]), ["all"], ["exact"], 999)
    assert turned.comparisons[0].verdict == "worse"


def test_one_seed_is_not_tested(tmp_path):
    out = write_output(tmp_path, {"a": 0.2, "b": 0.9}, seeds=(42,))
    found = compare_students(find_contestants([str(out)]), ["all"], ["exact"], 200)
    (row,) = found.comparisons
    assert (row.p, row.p_holm, row.verdict, row.effect_size, row.seeds_needed) == (None, None, "one seed", None, None)
    assert row.low < row.difference < row.high
    assert found.tests == 0
    assert "1 comparisons are not tested" in comparison_tables.notes(found)[0]


def test_shares_are_compared_one_by_one(tmp_path):
    for share, skill in ((0.1, 0.3), (1.0, 0.7)):
        for student, seed in itertools.product("ab", (1, 2)):
            write_run(tmp_path, student, skill, seed, share=share)
    found = compare_students(find_contestants([str(tmp_path)]), ["all"], ["exact"], 200)
    assert [row.share for row in found.comparisons] == [0.1, 1.0]
    assert next(comparison_tables.tables(found)).keys == ("task", "share", "subset", "scoring")


def test_effect_sizes():
    first, second = np.array([1.0, 2.0, 3.0]), np.array([3.0, 4.0, 5.0, 9.0])
    pooled = (((first - 2) ** 2).sum() + ((second - second.mean()) ** 2).sum()) / 5
    assert hedges_g(first, second) == pytest.approx((5.25 - 2) / pooled**0.5 * (1 - 3 / 19))
    assert hedges_g(first[:1], second) is None
    assert hedges_g(np.ones(2), np.zeros(2)) is None
    assert superiority(first, second) == pytest.approx((11 + 0.5) / 12)
    assert superiority(first, second) == stats.mannwhitneyu(second, first).statistic / 12


NAME = "a|b_$x$ <script> \\input{x} 100% \x1b[31m ```\n# x"


def test_names_are_escaped_in_all_tables(report):
    row = report.comparisons[0]
    hostile = report.model_copy(
        update={
            "comparisons": (row.model_copy(update={"first": row.first.model_copy(update={"name": NAME})}),),
            "gaps": (report.gaps[0].model_copy(update={"why": NAME}),),
        }
    )
    markdown, latex = comparison_tables.markdown(hostile), comparison_tables.latex(hostile)
    assert "\x1b" not in markdown + latex
    assert "<script>" not in markdown
    for line in markdown.splitlines():
        if line.startswith("|"):
            # A "|" that is not escaped would be another column.
            assert line.replace("\\|", "").count("|") in (13, 11, 8)
    assert "\\input" not in latex
    assert "$" not in latex.replace("\\$", "")
    for line in latex.splitlines():
        assert line.startswith("% ") or "%" not in line.replace("\\%", "")
    assert latex.count("{") - latex.count("\\{") == latex.count("}") - latex.count("\\}")


def test_the_tables_have_the_numbers(report):
    row = only(report, "a_scratch", "distilled")
    markdown = comparison_tables.markdown(report)
    line = next(line for line in markdown.splitlines() if line.startswith("| atsa/rest14 | all | exact |"))
    assert f"| 40 | 3 | {row.first.mean:.1f} ± {row.first.deviation:.1f} |" in line
    assert f"| {row.difference:+.1f} | {row.low:+.1f} to {row.high:+.1f} |" in line
    latex = comparison_tables.latex(report)
    assert latex.count("\\begin{table}") == latex.count("\\end{table}") == 9
    assert "{a\\_scratch}" in latex


def test_json_is_read_again(report):
    text = report.model_dump_json()
    assert StudentComparison.model_validate(json.loads(text)) == report
