"""``fsa check`` with text that no teacher should write, and readers of damaged outputs of ``fsa check`` and ``fsa
corpus``.

There is no traceback, no row takes more than 10 s, and every row is kept, dropped or skipped with a counted reason.
"""

from __future__ import annotations

import contextlib
import json
import shutil
from collections import Counter
from pathlib import Path
from random import Random

import pyarrow
import pytest
from damage import damaged

from fsa_base.errors import DataError
from fsa_jax.checking.assess import MAX_CHARACTERS, CheckSettings, assess
from fsa_jax.checking.check_generations import check, released
from fsa_jax.checking.checked_files import SCHEMA, as_row, parts, read_part, require_whole
from fsa_jax.cli.main import main
from fsa_jax.common.records import Generation, Review
from fsa_jax.corpus.selection import files, rows
from fsa_jax.synthetic.files import write_teacher_text
from fsa_jax.synthetic.oracle import Oracle
from fsa_jax.synthetic.world import draw_reviews

_MARKS = (
    " \t\n\r\x0b\x00\x1b\x7f\x85\u2028\u202e\ud800\udfff\ufffe፩²①é\u0301\u0316\ufdfa🍕\"'“”‘’()[]{}<>:;,.!?-–—…*#_&"
)
_PHRASES = """999999999999999999999999999999|1.5|20 million |7:30|1,000,000|Monday |New York & Co|A.B |pizza |I |0|
Opinion Target 1: |
Target: 'pizza'|
Aspect: Food|
Sentiment: Positive|
Reasoning: it says so.|
Review:|Confidence: 90%|Example 2:|### Response|I'm sorry, |Here is the rewritten review:|the reviewer |""|[Product]|
{{ 7*7 }}|<script>|e.g. |, referring to the |reasoning:"""
BITS = (*_MARKS, *_PHRASES.split("|"), "\n\n")
"""Texts that are inserted, once or many times."""


@pytest.fixture(scope="module")
def released_file(tmp_path_factory) -> Path:
    return write_teacher_text(tmp_path_factory.mktemp("text"), draw_reviews(1, 30), Oracle())


@pytest.fixture(scope="module")
def pairs(released_file) -> list[tuple[Review, Generation]]:
    return list(released(released_file, Counter()))


def odd(text: str, rng: Random) -> str:
    """A text with random damage; one in 20 grows by tens of thousands of characters."""
    for _ in range(rng.randrange(5)):
        at = rng.randrange(len(text) + 1)
        kind = rng.randrange(4)
        if kind == 0:
            text = text[:at] + rng.choice(BITS) + text[at:]
        elif kind == 1:
            text = text[:at] + text[at + rng.randrange(1, 60) :]
        elif kind == 2:
            text = text[:at] + text[at : at + rng.randrange(1, 200)] * rng.randrange(2, 5) + text[at:]
        else:
            pump = "".join(rng.choices(BITS, k=rng.randrange(1, 4)))
            size = rng.choice((50, 500)) if rng.random() > 0.05 else rng.choice((20_000, MAX_CHARACTERS, 200_000))
            text = text[:at] + (pump * (size // len(pump) + 1))[:size] + text[at:]
    return text


def test_odd_generations_are_kept_or_dropped_with_a_reason(pairs, campaign, rng, cases):
    settings = CheckSettings()
    for number in range(cases(150, 3000)):
        review, generation = rng.choice(pairs)
        text = odd(rng.choice((generation.text or "", generation.text or "", "", review.text)), rng)
        # The readers of reviews clean them, and refuse those without a letter.
        told = odd(review.text, rng).encode("utf-8", "replace").decode() if rng.random() < 0.3 else review.text
        review = review.model_copy(update={"text": told})
        generation = generation.model_copy(
            update={
                "text": text,
                "understanding": rng.choice((generation.understanding, generation.understanding, "analysis")),
                "output_tokens": 5,
            }
        ).model_copy(update={"sampling": {"max_tokens": rng.choice((5, 50))}})

        def attempt(review=review, generation=generation) -> str:
            found = assess(review, generation, settings)
            assert (found.verdict == "drop") == (found.reason is not None)
            assert found.verdict != "repair" or found.repairs
            pyarrow.Table.from_pylist([as_row(found)], schema=SCHEMA)
            found.model_dump_json()
            assert found.verdict == "drop" or any(character.isalnum() for character in found.response)
            return found.verdict

        campaign.run(
            f"case {number}: {generation.understanding} {text[:200]!r} … {len(text)} of {told[:80]!r}", attempt
        )


VALUES = (None, 7, 1e400, True, [], {}, {"a": [1]}, "", " ", "\x00", "\ud800", "5 stars", "-1", 10**400)


def test_every_row_of_an_odd_file_is_counted(pairs, tmp_path, campaign, rng, cases):
    for number in range(cases(10, 200)):
        lines = []
        for _ in range(rng.randrange(1, 40)):
            review, generation = rng.choice(pairs)
            row: dict[str, object] = {
                "ID": review.id,
                "Text": review.text,
                "Overall": review.stars,
                "mixtral_response": odd(generation.text or "", rng),
            }
            for key in ("ID", "Text", "Overall", "mixtral_response"):
                if rng.random() < 0.05:
                    row[key] = rng.choice(VALUES)
                if rng.random() < 0.02:
                    del row[key]
            line = json.dumps(row)
            if rng.random() < 0.05:
                line = rng.choice((line[: rng.randrange(len(line))], "[" * 3000, "{}", "null", "\ufeff" + line)) or "x"
            lines.append(line.replace("\n", " "))
        file, out = tmp_path / f"{number}.jsonl", tmp_path / f"{number}"
        file.write_text("\n".join(lines) + "\n", encoding="utf-8")

        def attempt(file=file, out=out, lines=lines) -> str:
            skipped: Counter[str] = Counter()
            statistics = check(released(file, skipped), CheckSettings(), out)
            kept, dropped = (
                [row for part in parts(out / name) for row in read_part(part)] for name in ("kept", "dropped")
            )
            assert len(kept) + len(dropped) == statistics.rows
            assert statistics.rows + skipped.total() == len(lines), (statistics.rows, skipped, len(lines))
            assert statistics.reasons().total() == len(dropped)
            assert sum(1 for part in files(out) for _ in rows(part)) == len(kept)
            return "every row counted"

        campaign.run(f"file {number}: {lines!r}"[:2000], attempt)
        shutil.rmtree(out, ignore_errors=True)
        file.unlink()


@pytest.fixture(scope="module")
def checked(released_file, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("checked") / "out"
    assert main(["check", str(released_file), str(out), "--workers", "1"]) == 0
    return out


def _names(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


@contextlib.contextmanager
def one_damaged_file(folder: Path, name: str, rng: Random):
    """Damages, removes or empties one file of a folder during the block; yields a description."""
    file = folder / name
    data = file.read_bytes()
    said, changed = damaged(data, rng)
    if rng.random() < 0.1:
        said, changed = "removed", None
    file.unlink()
    if changed is not None:
        file.write_bytes(changed)
    try:
        yield f"{name}: {said}"
    finally:
        file.write_bytes(data)


def test_damage_to_a_check_is_never_silent(checked, tmp_path, campaign, rng, cases):
    out = tmp_path / "out"
    shutil.copytree(checked, out)
    for _ in range(cases(30, 500)):
        with one_damaged_file(out, rng.choice(_names(out)), rng) as said:

            def attempt() -> str:
                require_whole(out)
                raise AssertionError("read in silence")

            campaign.run(said, attempt)
    assert campaign.outcomes.keys() == {"refused"}


def test_a_check_without_checksums_is_read_or_refused(checked, tmp_path, campaign, rng, cases):
    """A check of version 528859f: a damaged one may be read, but never gives a traceback."""
    whole = [row for part in files(checked) for row in rows(part)]
    out = tmp_path / "out"
    shutil.copytree(checked, out)
    for _ in range(cases(30, 500)):
        with one_damaged_file(out, "kept/part-00000.parquet", rng) as said:

            def attempt() -> str:
                found = [row for part in files(out) for row in rows(part)]
                return "same rows" if repr(found) == repr(whole) else "other rows, not verified"

            campaign.run(said, attempt)


@pytest.fixture(scope="module")
def corpus(checked, tmp_path_factory) -> Path:
    data = tmp_path_factory.mktemp("data")
    assert main(["corpus", str(checked), str(data / "corpus"), "--held_out", "5"]) == 0
    return data


def test_a_damaged_corpus_is_never_used(corpus, tmp_path, campaign, rng, cases, monkeypatch):
    from fsa_jax.data.corpus_source import CorpusSource

    shutil.copytree(corpus, tmp_path / "data")
    monkeypatch.setenv("FSA_DATA_DIR", str(tmp_path / "data"))
    assert CorpusSource("analysis").num_input_examples("train")
    root = tmp_path / "data" / "corpus" / "sentiment_corpus"
    for _ in range(cases(30, 400)):
        with one_damaged_file(root, rng.choice(_names(root)), rng) as said:

            def attempt() -> str:
                CorpusSource("analysis").num_input_examples("train")
                raise AssertionError("read in silence")

            campaign.run(said, attempt)
    assert campaign.outcomes.keys() == {"refused"}
    assert CorpusSource("analysis").num_input_examples("train")


def test_a_corpus_without_checksums_is_read_or_refused(corpus, tmp_path, campaign, rng, cases, monkeypatch):
    """A corpus of version 528859f; its description is damaged (TFRecord files have their own checksums)."""
    from fsa_jax.data.corpus_source import Ablation, CorpusSource

    shutil.copytree(corpus, tmp_path / "data")
    monkeypatch.setenv("FSA_DATA_DIR", str(tmp_path / "data"))
    root = tmp_path / "data" / "corpus" / "sentiment_corpus"
    for name in ("finished.json", "checksums.sha256"):
        (root / name).unlink()
    statistics = json.loads((root / "statistics.json").read_text("utf-8"))
    del statistics["checksums"]
    (root / "statistics.json").write_text(json.dumps(statistics), encoding="utf-8")
    names = ["statistics.json", "analysis/1.0.0/dataset_info.json", "analysis/1.0.0/features.json"]
    source = CorpusSource("analysis", Ablation(size=5))
    assert source.get_dataset("train", shuffle=False) is not None
    for _ in range(cases(12, 200)):
        with one_damaged_file(root, rng.choice(names), rng) as said:

            def attempt() -> str:
                assert source.get_dataset("train", shuffle=False) is not None
                return "read, not verified"

            campaign.run(said, attempt)
    # The campaign found the first one, a KeyError.
    for renamed in ("implicit_share_tenth5", 'implicit_share_tenths": {}, "'):
        text = json.dumps(statistics).replace("implicit_share_tenths", renamed)
        (root / "statistics.json").write_text(text, encoding="utf-8")
        with pytest.raises(DataError, match="the corpus's statistics"):
            source.get_dataset("train", shuffle=False)


def test_the_reader_names_what_is_damaged(checked, tmp_path):
    out = tmp_path / "out"
    shutil.copytree(checked, out)
    (out / "kept" / "part-00000.parquet").write_bytes(b"PAR1")
    with pytest.raises(DataError, match=r"kept/part-00000\.parquet has changed"):
        require_whole(out)
