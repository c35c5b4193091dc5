"""Star ratings on other scales: single ratings, the scale of a file, and the commands that read such files."""

from __future__ import annotations

import json
import math
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fsa_base.errors import DataError, SettingError
from fsa_jax.checking.check_generations import released
from fsa_jax.cli.main import main
from fsa_jax.reviews.parquet_files import read_reviews
from fsa_jax.reviews.raw_row import BadRow
from fsa_jax.reviews.row_to_review import PROBED_ROWS
from fsa_jax.reviews.source import Losses, Source, StarsScales
from fsa_jax.reviews.stars import THUMBS, UNCHANGED, Rating, Ratings, parse_scale, read_rating
from fsa_jax.teacher.job import read_reviews as read_dump

OPTIONS = ("--language", "null", "--near-duplicates", "null", "--stars-ratio", "null", "--shortfall", "fill")


def stars(value: object, scale: str = "unchanged", offset: float = 0.0) -> float | str | None:
    """The stars of a value, or the reason why it has none."""
    rating = read_rating(value, offset)
    found = rating.stars(parse_scale(scale) or UNCHANGED) if isinstance(rating, Rating) else rating
    return found.reason if isinstance(found, BadRow) else found


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        *((4, 4), (4.5, 4.5), ("4,5", 4.5), ("4 stars", 4), (0, 0), (None, None), ("", None)),
        *(("4.5/5", 4.5), ("4 out of 5", 4), ("4.0 out of 5 stars", 4), ("Rated 3 out of 5", 3), ("2 / 5.0", 2)),
        *(("8/10", 4.2), ("10/10", 5), ("0/10", 1), ("80%", 4.2), ("80 / 100", 4.2), ("2/4", 3)),
        *(("★★★★☆", 4), ("★★★½", 3.5), ("⭐️⭐️", 2), ("★★★★★", 5)),
        *(("Thumbs-Up", 5), ("👎", 1), ("positive", 5), ("Not Recommended", 1), ("neutral", 3)),
    ],
)
def test_ratings_that_state_their_scale_are_mapped_to_stars(value: object, expected: float | None):
    assert stars(value) == expected


@pytest.mark.parametrize(
    "value",
    ["many", "not positive", "1/2", "3/200", "5 of a kind", "★★★★★★", "☆", "½", "★a", True, "false", [4], "-1", "%"],
)
def test_what_is_no_rating_is_not_guessed(value: object):
    assert stars(value) == "stars that are no number"


def test_numbers_outside_their_scale_say_so():
    assert stars(7) == stars("7/5") == stars(10**400) == "stars outside 0 to 5"
    assert stars(0, "1-10") == "stars outside 1 to 10"
    assert stars("12/10") == "stars above the maximum that is stated with them"
    assert stars(4, "thumbs") == "a number as stars, among thumbs up and down"


@pytest.mark.parametrize(
    ("scale", "values", "expected"),
    [
        ("0-10", [0, 1, 5, 8, 10], [1, 1.4, 3, 4.2, 5]),
        ("1-10", [1, 2, 5.5, 10], [1, 1.44, 3, 5]),
        ("0-100", [0, 50, "80", 100], [1, 3, 4.2, 5]),
        ("0-1", [0, 1], [1, 5]),
        ("0-4", [0, 2, 4], [1, 3, 5]),
        ("1-5", [1, 2.5, 5], [1, 2.5, 5]),
        ("thumbs", [True, "no", "Recommended"], [5, 1, 5]),
    ],
)
def test_a_scale_is_mapped_linearly_to_one_to_five(scale: str, values: list, expected: list[float]):
    assert [stars(value, scale) for value in values] == expected
    assert stars(3, "1-10", offset=1) == stars(4, "1-10")


@given(
    st.one_of(st.text(max_size=45), st.floats(), st.integers(), st.booleans(), st.none()),
    st.sampled_from(["unchanged", "0-10", "thumbs"]),
)
def test_any_value_gives_stars_from_0_to_5_or_a_reason(value: object, scale: str):
    found = stars(value, scale)
    assert found is None or isinstance(found, str) or (0 <= found <= 5 and math.isfinite(found))


@pytest.mark.parametrize(
    ("values", "scale"),
    [
        ([1, 2, 3, 4, 5] * 30, "unchanged"),
        ([0, 2.5, 5], "unchanged"),
        ([], "unchanged"),
        ([None, "8/10", "positive"], "unchanged"),
        ([3, 4, 5] * 100 + [55, 9, 0.5], "unchanged"),
        ([4, 5, 5, 55, -1], "unchanged"),
        ([*range(1, 11)], "1-10"),
        ([*range(11)], "0-10"),
        ([0.5, 7, 8, 10], "0-10"),
        ([4] * 70 + [8] * 30, "1-10"),
        ([3, 60, 75, 90], "0-100"),
        ([55], "0-100"),
        ([True, False, True], "thumbs"),
        (["yes", "no", None], "thumbs"),
        ([1, 2, 3, 4, True], "unchanged"),
        ([4] * 90 + [8] * 10, None),
        ([4] * 90 + [60] * 10, None),
        ([0, 1, 1, 1], None),
        ([4] * 10 + ["8/10"] * 10, None),
    ],
)
def test_the_scale_is_decided_from_all_ratings_of_a_file(values: list, scale: str | None):
    ratings = Ratings()
    for value in values:
        ratings.add(read_rating(value))
    found = ratings.scale()
    assert (found and found.name) == scale


def test_scales_that_the_user_states():
    assert parse_scale("auto") is None and parse_scale("thumbs") is THUMBS
    for wrong in ("5", "10-0", "5-5", "a-b", "", "0-99999", "1-10 "):
        with pytest.raises(SettingError, match="--stars-scale"):
            parse_scale(wrong)
    scales = StarsScales(["hotels=0-10", "b.csv=thumbs", "year=2020/c.csv=1-10", "unchanged"])
    names = [
        getattr(scales.of(Source(path, domain), path), "name", None)
        for path, domain in (("x/a.csv", "hotels"), ("x/b.csv", None), ("year=2020/c.csv", None), ("d.csv", "games"))
    ]
    assert names == ["0-10", "thumbs", "1-10", "unchanged"]
    scales.refuse_unused()
    for wrong in (["0-10", "1-10"], ["a=0-10", "a=0-10"]):
        with pytest.raises(SettingError, match="one scale"):
            StarsScales(wrong)


def dump(path: Path, ratings: list) -> Path:
    rows = [
        {"id": f"r{i}", "text": f"Table {i} was clean and lovely.", "rating": rating}
        for i, rating in enumerate(ratings)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def sampled(folder: Path, sources: object, *options: str) -> dict:
    output = folder / "out.parquet"
    given = OPTIONS[:4] + OPTIONS[6:] if "--stars-ratio" in options else OPTIONS
    assert main(["sample", str(sources), str(output), "--size", "10000", "--overwrite", *given, *options]) == 0
    return json.loads(output.with_suffix(".report.json").read_text("utf-8"))


def test_stars_on_other_scales_are_sampled_by_their_strata(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    source = dump(tmp_path / "hotels.jsonl", [*range(11)] * 20)
    report = sampled(tmp_path, source, "--stars-ratio", '{"1": 1, "2": 1, "3": 1, "4": 1, "5": 1}')
    assert report["files"][str(source)]["stars"] == [{"scale": "0-10", "rows": 220, "mapped": "0→1, 5→3, 10→5"}]
    assert {row["stars"]: row["fit"] for row in report["strata"]} == {1: 40, 2: 40, 3: 60, 4: 40, 5: 40}
    assert "hotels.jsonl: stars 0-10 mapped to 1-5 (0→1, 5→3, 10→5), 220 rows" in capsys.readouterr().out
    by_stars = Counter(review.stars for review in read_reviews(tmp_path / "out.parquet"))
    assert by_stars == {round(1 + 0.4 * value, 2): 20 for value in range(11)}


def test_the_scale_of_a_file_holds_for_all_its_rows(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    # The only 0, which makes it a scale from 0, is after the rows that are read first.
    source = dump(tmp_path / "a.jsonl", [*([4, 8] * 600), 0])
    (used,) = sampled(tmp_path, source)["files"][str(source)]["stars"]
    assert (used["scale"], used["rows"]) == ("0-10", 1201)
    # The first rows look like stars.
    dump(source, [4] * 1500 + [8] * 300)
    arguments = ["sample", str(source), str(tmp_path / "b.parquet"), *OPTIONS]
    assert main(arguments) == 2
    told = capsys.readouterr().err
    assert "0-5, as in its first 1,000 rows, found 1,500 x above 1 to 5, 300 x above 5 to 10" in told
    assert "--stars-scale" in told and not (tmp_path / "b.parquet").exists()
    assert sampled(tmp_path, source, "--stars-scale", "1-10")["size"] == 1800
    report = sampled(tmp_path, source, "--stars-scale", "a.jsonl=unchanged")
    assert report["files"][str(source)]["dropped"] == {"stars outside 0 to 5": 300} and report["size"] == 1500


def test_a_scale_that_cannot_be_decided_is_an_error_with_a_fix(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    first, second = dump(tmp_path / "a.jsonl", [0, 1] * 20), dump(tmp_path / "b.jsonl", [True, False] * 20)
    sources = json.dumps([f"games={first}", str(second)])
    assert main(["sample", sources, str(tmp_path / "c.parquet"), *OPTIONS]) == 2
    told = capsys.readouterr().err
    assert "a.jsonl: expected ratings whose scale is clear, found 20 x 0, 20 x 1" in told and "0-1" in told
    report = sampled(tmp_path, sources, "--stars-scale", '["games=0-1"]')
    assert [file["stars"][0]["scale"] for file in report["files"].values()] == ["0-1", "thumbs"]
    assert main(["sample", sources, str(tmp_path / "c.parquet"), *OPTIONS, "--stars-scale", "game=0-1"]) == 2


def test_teach_reads_the_texts_of_sample_without_stars_and_only_the_rows_that_it_needs(tmp_path: Path):
    source = dump(tmp_path / "a.jsonl", [*range(1, 11), "5/5", "positive"])
    sampled(tmp_path, source)
    texts = {review.id: review.text for review in read_reviews(tmp_path / "out.parquet")}
    assert {review.id: review.text for review in read_dump([Source(str(source))], Losses())} == texts
    dump(source, [*[10] * 1200, "many"])
    losses, reading = Losses(), []
    assert {review.stars for review in read_dump([Source(str(source))], losses)} == {None} and losses.kept == 1201

    class Counted(Source):
        def parts(self):
            ((name, rows),) = super().parts()
            return [(name, lambda: (reading.append(row) or row for row in rows()))]

    next(read_dump([Counted(str(source))], Losses()))
    assert len(reading) == PROBED_ROWS + 1


def test_check_maps_the_stars_of_released_rows(tmp_path: Path):
    def rows(values: list) -> Path:
        path = tmp_path / "released.jsonl"
        lines = [
            {"ID": i, "Text": "A&amp;B<br>", "Overall": value, "gpt_response": "x"} for i, value in enumerate(values)
        ]
        path.write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
        return path

    reviews = [review for review, _ in released(rows([1, 5.5, 10]), Counter())]
    assert [review.stars for review in reviews] == [1, 3, 5]
    assert {review.text for review in reviews} == {"A&amp;B<br>"}  # as the teacher read it
    with pytest.raises(DataError, match="whose scale is clear"):
        list(released(rows([0, 1, 1]), Counter()))
    with pytest.raises(DataError, match="first 1,000 rows"):
        list(released(rows([4] * 1000 + [9] * 1000), Counter()))
