"""``fsa corpus``: the TFDS dataset, its provenance, splits, card and ablations."""

from __future__ import annotations

import itertools
import json
import math
import re
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from stand_in_hub import connected_hub

from fsa_base.errors import DataError, MissingDataError, SettingError
from fsa_jax.checking.checked_files import SCHEMA, PartWriter
from fsa_jax.cli.main import main
from fsa_jax.corpus.dataset_card import card
from fsa_jax.corpus.selection import Selection, files, held_out, rows, selected

REVIEWS = 1200
HELD_OUT, TRAINED = 70, 1130
"""Number of held-out analyses, if 100 rows of both forms are held out."""
REASONED = 'Opinion Target 1: "pizza"\nAspect: Food\nSentiment: Positive\nReasoning: It says\nso twice.\n\n'
HOSTILE = "te|ach`er <script>\n# x"


def row(number: int, understanding: str) -> dict:
    found = dict.fromkeys(SCHEMA.names)
    return found | {
        "review_id": f"r{number}",
        "review": f"The pizza number {number} was good, ñandú and all.",
        "stars": None if number % 10 == 0 else float(number % 5 + 1),
        "domain": "restaurants" if number % 3 else None,
        "understanding": understanding,
        "response": REASONED + f'Opinion Target 2: "number {number}"\nSentiment: Neutral'
        if understanding == "analysis"
        else "I ate.",
        "teacher": "a" if number % 2 else HOSTILE,
        "teacher_revision": "v1",
        "prompt_hash": f"{understanding}-hash",
        "sampling": '{"temperature": 0.7}',
        "seed": 7,
        "sample": number % 2,
        "verdict": "repair" if number % 4 == 0 else "keep",
        "repairs": ["header", "loop"] if number % 4 == 0 else [],
        "inventions": [],
        "opinions": 2,
        "hallucination": None if number % 8 == 7 else (number % 8) / 10,
        "lean": 0.5,
        "stars_gap": 0.25,
        "partner_gap": None,
        "implicit_share": 0.8 if number % 4 == 1 else 0.2,
    }


@pytest.fixture(scope="module")
def checked(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("checked")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("fsa_jax.checking.checked_files.PART_ROWS", 700)
        patch.setattr("fsa_jax.checking.checked_files._GROUP_ROWS", 100)
        with PartWriter(folder / "kept") as writer:
            for number in range(REVIEWS):
                writer.write(row(number, "analysis"))
                if number % 2:
                    writer.write(row(number, "rewriting"))
    (folder / "check.json").write_text(json.dumps({"reasons": {"refusal": 3, "<b>": 1}}), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def data(checked, tmp_path_factory) -> Path:
    """A data directory with the corpus, built by the command."""
    folder = tmp_path_factory.mktemp("data")
    assert main(["corpus", str(checked), str(folder / "corpus"), "--held_out", "100", "--shards", "2"]) == 0
    return folder


def read(data_dir: Path, form: str, split: str) -> list[dict]:
    import tensorflow_datasets as tfds

    builder = tfds.builder_from_directory(data_dir / "corpus" / "sentiment_corpus" / form / "1.0.0")
    return list(tfds.as_numpy(builder.as_dataset(split=split)))  # pyright: ignore[reportCallIssue]


def test_every_row_is_there_with_its_provenance(data):
    expected = {f"r{number}": row(number, "analysis") for number in range(REVIEWS)}
    found = read(data, "analysis", "train") + read(data, "analysis", "validation")
    assert len(found) == REVIEWS
    for example in found:
        original = expected.pop(example["review_id"].decode())
        for name in ("review", "response", "teacher", "teacher_revision", "prompt_hash", "sampling", "verdict"):
            assert example[name].decode() == original[name]
        for name in ("seed", "sample", "opinions"):
            assert example[name] == original[name]
        for name in ("stars", "hallucination", "lean", "stars_gap", "partner_gap", "implicit_share"):
            known = original[name] is not None
            assert math.isnan(example[name]) != known and (not known or example[name] == pytest.approx(original[name]))
        assert example["repairs"].decode() == ", ".join(original["repairs"])
        assert example["domain"].decode() == (original["domain"] or "")
    assert not expected


def test_the_files_do_not_depend_on_the_process_that_wrote_them(data):
    """A corpus that was killed and built again is identical, byte by byte, although TFDS orders features at random."""
    import tensorflow as tf

    files = sorted((data / "corpus" / "sentiment_corpus").rglob("*.tfrecord-*"))
    assert len(files) == 8
    for file in files:
        for record in tf.data.TFRecordDataset(str(file)).as_numpy_iterator():
            assert record == tf.train.Example.FromString(record).SerializeToString(deterministic=True)


def test_both_forms_of_a_review_are_in_the_same_split(data):
    held_out = {
        form: {row["review_id"] for row in read(data, form, "validation")} for form in ("analysis", "rewriting")
    }
    trained = {form: {row["review_id"] for row in read(data, form, "train")} for form in ("analysis", "rewriting")}
    assert len(held_out["analysis"]) == HELD_OUT and len(held_out["rewriting"]) == 100 - HELD_OUT
    assert (
        held_out["rewriting"] < held_out["analysis"] and len(trained["rewriting"]) + len(held_out["rewriting"]) == 600
    )
    assert not trained["rewriting"] & held_out["analysis"]


def test_shards_card_and_statistics(data, checked):
    root = data / "corpus" / "sentiment_corpus"
    assert len(list((root / "analysis" / "1.0.0").glob("*train*"))) == 2
    statistics = json.loads((root / "statistics.json").read_text("utf-8"))
    part = statistics["parts"]["analysis"]["train"]
    assert part["rows"] == TRAINED and sum(part["implicit_share_tenths"]) == TRAINED
    assert part["hallucination_rate"] == pytest.approx(0.3, abs=0.02)
    text = (root / "README.md").read_text("utf-8")
    assert "| analysis | train | 1,130 |" in text and "refusal 3" in text
    assert r"te\|ach\`er &lt;script&gt; # x / analysis-has" in text
    assert "<script" not in text and "<b>" not in text
    assert "- reviews: 1,200" in text and statistics["reviews"] == REVIEWS
    assert f"- built from {checked.name}\n" in text and str(checked) not in text


def test_a_corpus_is_replaced_only_with_overwrite(checked, data, tmp_path, capsys):
    arguments = ["corpus", str(checked), str(data / "corpus")]
    assert main(arguments) == 2
    assert "--overwrite" in capsys.readouterr().err
    # The files of a killed build of version 528859f are not a corpus, and may belong to other inputs.
    unfinished = tmp_path / "sentiment_corpus" / "analysis" / "1.0.0"
    unfinished.mkdir(parents=True)
    (unfinished / "junk").touch()
    build = ["corpus", str(checked), str(tmp_path), "--teachers", '["a"]', "--max_hallucination", "0.15"]
    assert main(build) == 2
    assert "--overwrite" in capsys.readouterr().err and (unfinished / "junk").exists()
    assert main([*build, "--overwrite"]) == 0
    statistics = json.loads((tmp_path / "sentiment_corpus" / "statistics.json").read_text("utf-8"))
    # Teacher "a" wrote the odd rows: scores .1 .3 .5 unknown.
    assert statistics["left_out"] == {"teacher not selected": 600, "hallucination above the limit": 600}
    kept = sum(part["rows"] for splits in statistics["parts"].values() for part in splits.values())
    assert kept == 600
    assert not (unfinished / "junk").exists()


def test_beam_builds_the_same_rows(checked, data, tmp_path):
    from fsa_jax.data.build_corpus import build_corpus

    selection = Selection(held_out=100)
    runner = "--runner=apache_beam.runners.portability.fn_api_runner.FnApiRunner"
    build_corpus(checked, tmp_path / "corpus", selection, beam_options=[runner, "--direct_num_workers=1"])
    for split in ("train", "validation"):
        ours, beams = (
            {row["review_id"]: row["response"] for row in read(at, "analysis", split)} for at in (data, tmp_path)
        )
        assert ours == beams


def test_selection_and_splits_without_tensorflow(checked):
    source_files = files(checked)
    assert len(source_files) == 3
    validation = held_out(source_files, Selection(held_out=10_000))
    found = [found for file in source_files for _, found in selected(file, Selection())]
    share = Counter(validation.split_of(row["review"]) for row in found)["validation"] / len(found)
    assert share == pytest.approx(0.1, abs=0.02)  # never more than a tenth
    none = Selection(held_out=0)
    validation = held_out(source_files, none)
    assert all(validation.split_of(row["review"]) == "train" for row in found)
    assert held_out(source_files, Selection(seed=1)).reviews != held_out(source_files, Selection()).reviews
    keys = [key for file in source_files for key, _ in selected(file, Selection())]
    assert len(set(keys)) == len(keys) == 1800
    losses: Counter[str] = Counter()
    chosen = [
        found
        for file in source_files
        for found in selected(file, Selection(prompts=("rewr",), domains=("restaurants",)), losses=losses)
    ]
    assert len(chosen) == 400 and losses == {"prompt not selected": 1200, "domain not selected": 200}
    with pytest.raises(DataError):
        held_out(source_files, Selection(teachers=("nobody",)))
    with pytest.raises(SettingError):
        Selection(max_hallucination=2)


def test_both_layouts_hold_out_the_same_reviews(tmp_path, monkeypatch):
    """Teacher text has the same validation rows in the released layout and as a corpus."""
    from fsa_jax.data.corpus_source import CorpusSource
    from fsa_jax.data.sources import TeacherTextSource

    file = tmp_path / "teacher" / "text.jsonl"
    file.parent.mkdir()
    with file.open("w") as out:
        for number in range(400):
            # The second review of a pair is a copy under another id, so both are in the same split.
            review = f"Pizza number {number}." if number % 10 else f"pizza  NUMBER {number + 1}!"
            responses = (f'Opinion Target 1: "pizza {number}"\nSentiment: Neutral', f"I ate {number}.")
            for response in responses[: 1 + number % 3]:
                out.write(json.dumps({"ID": number, "Text": review, "Overall": 3, "m_response": response}) + "\n")
    monkeypatch.setenv("FSA_DATA_DIR", str(tmp_path))
    for limit, seed in ((25, 3), (10_000, 0)):
        monkeypatch.setenv("FSA_HELD_OUT", str(limit))
        monkeypatch.setenv("FSA_HELD_OUT_SEED", str(seed))
        arguments = [str(file), str(tmp_path / "corpus"), "--held_out", str(limit), "--seed", str(seed)]
        assert main(["corpus", *arguments, "--overwrite", "true"]) == 0
        held: list[set[str]] = []
        for form in ("analysis", "rewriting"):
            parts = {}
            for source, split in itertools.product((TeacherTextSource, CorpusSource), ("train", "validation")):
                rows_of = source(form).get_dataset(split, shuffle=False).as_numpy_iterator()
                parts[source, split] = {(row["inputs"].decode(), row["targets"]) for row in rows_of}
            for split in ("train", "validation"):
                assert parts[TeacherTextSource, split] == parts[CorpusSource, split] != set()
            held.append({review for review, _ in parts[CorpusSource, "validation"]})
            assert not held[-1] & {review for review, _ in parts[CorpusSource, "train"]}
        assert held[0] & held[1]
    originals, copies = (
        [pattern.format(number + 1) in held[0] for number in range(0, 400, 10)]
        for pattern in ("Pizza number {}.", "pizza  NUMBER {}!")
    )
    assert originals == copies and any(copies)


def test_the_released_layout_is_read_without_a_check(real_data_dir, tmp_path):
    file = real_data_dir / "teacher" / "mixtral_8x7b_reviews.jsonl"
    found = list(rows(file))
    assert Counter(row["understanding"] for row in found) == {"rewriting": 217, "analysis": 183}
    assert all(row["verdict"] == "unchecked" and math.isnan(row["hallucination"]) for row in found)
    with file.open(encoding="utf-8-sig") as lines:
        assert [row["response"] for row in found] == [json.loads(line)["mixtral_response"].strip() for line in lines]


def test_the_card_of_an_unchecked_corpus():
    text = card({"left_out": {}, "parts": {}}, "x", {}, None)
    assert text.startswith("---\n") and "dropped by the check" not in text


def test_a_corpus_is_pushed_with_its_build_or_later(checked, data, tmp_path, monkeypatch, capsys):
    """The code in its card reads what the Hub has."""
    from huggingface_hub import DatasetCard

    with connected_hub(tmp_path / "cache") as hub:
        build = ["corpus", str(checked), str(tmp_path / "corpus"), "--held_out", "100", "--teachers", '["a"]']
        hub.refused.add("commit")
        assert main([*build, "--push", "me/reviews"]) == 2
        root = tmp_path / "corpus" / "sentiment_corpus"
        assert f"fsa push {root} me/reviews" in capsys.readouterr().err
        hub.refused.clear()
        (root / ".DS_Store").touch()
        assert main(["push", str(root), "me/reviews"]) == 0
        repository = hub.repositories["datasets/me/reviews"]
        assert repository.private and "/datasets/me/reviews/commit/" in capsys.readouterr().out
        names = {str(file.relative_to(root)) for file in root.rglob("*") if file.is_file()} - {".DS_Store"}
        assert set(repository.files) == {*names, ".gitattributes"}
        assert not any(str(tmp_path).encode() in content for content in repository.files.values())
        card = DatasetCard(repository.files["README.md"].decode())
        assert card.data.to_dict()["size_categories"] == "1K<n<10K" and card.data.language == "en"
        (snippet,) = re.findall(r"```python\n(.*?)```", card.text, re.DOTALL)
        exec(snippet, {})
        assert "The pizza number" in capsys.readouterr().out
        # Another corpus in the same repository: no file of the old one stays.
        assert main(["push", str(data / "corpus" / "sentiment_corpus"), "me/reviews"]) == 0
        assert not any("00001-of-00001" in name or "00000-of-00001" in name for name in repository.files)
        (root / "finished.json").unlink()
        assert main(["push", str(root), "me/reviews"]) == 2
        assert "without checksums" in capsys.readouterr().err
        assert main([*build, "--push", "reviews"]) == 2
        assert "OWNER/NAME" in capsys.readouterr().err


@pytest.fixture
def corpus_source(data, monkeypatch):
    monkeypatch.setenv("FSA_DATA_DIR", str(data))
    from fsa_jax.data.corpus_source import Ablation, CorpusSource

    def train(form: Any = "analysis", split: str = "train", **ablation: Any):
        return list(CorpusSource(form, Ablation(**ablation)).get_dataset(split, shuffle=False).as_numpy_iterator())

    return train


def number_of(example: dict) -> int:
    return int(example["id"].decode()[1:])


def test_the_source_gives_reviews_and_teacher_text(corpus_source):
    found = corpus_source()
    assert len(found) == TRAINED and len(corpus_source(split="validation")) == HELD_OUT
    assert [example["row"] for example in found] == list(range(TRAINED))
    for example in found[:50]:
        assert example["inputs"].decode() == row(number_of(example), "analysis")["review"]
        assert example["targets"].decode() == row(number_of(example), "analysis")["response"]
    assert len(corpus_source("rewriting")) == 600 - len(corpus_source("rewriting", "validation"))


def test_without_reasoning(corpus_source):
    for split in ("train", "validation"):
        example = corpus_source(split=split, reasoning=False)[0]
        assert example["targets"].decode() == (
            'Opinion Target 1: "pizza"\nAspect: Food\nSentiment: Positive\n\n'
            f'Opinion Target 2: "number {number_of(example)}"\nSentiment: Neutral'
        )


def test_by_grounding_threshold(corpus_source):
    found = corpus_source(max_hallucination=0.25)
    assert {number_of(example) % 8 for example in found} == {0, 1, 2, 7}  # 7: not checked
    assert len(corpus_source(split="validation", max_hallucination=0.0)) == HELD_OUT


@pytest.mark.parametrize("share", [0.0, 0.1, 0.75, 1.0])
def test_by_implicit_ratio(corpus_source, share):
    found = corpus_source(implicit_share=share)
    implicit = sum(number_of(example) % 4 == 1 for example in found)
    assert implicit / len(found) == pytest.approx(share, abs=0.05 if 0 < share < 1 else 0)
    # All rows of the scarce kind are kept: a quarter of the corpus is implicit.
    whole = sum(number_of(example) % 4 == 1 for example in corpus_source())
    assert implicit == whole if share > 0.25 else len(found) - implicit == TRAINED - whole


def test_a_smaller_corpus_is_a_subset_of_a_larger_one(corpus_source):
    small, large = ({number_of(example) for example in corpus_source(size=size)} for size in (200, 600))
    assert small < large
    assert len(small) == pytest.approx(200, abs=45) and len(large) == pytest.approx(600, abs=60)
    assert small != {number_of(example) for example in corpus_source(size=200, seed=1)}
    assert len(corpus_source(size=10**9)) == TRAINED


def test_a_share_of_an_ablation_has_rows(corpus_source):
    from fsa_jax.data.corpus_source import Ablation, CorpusSource
    from fsa_jax.data.train_subsets import ShareSource

    whole = corpus_source(size=200)
    share = ShareSource(CorpusSource("analysis", Ablation(size=200)), 7, None, None)
    found = list(share.get_dataset("train", shuffle=False).as_numpy_iterator())
    assert share.num_input_examples("train") == 7
    assert [example["id"] for example in found] == [example["id"] for example in whole[:7]]


def test_shards_together_have_every_row_once(data, monkeypatch):
    import seqio

    monkeypatch.setenv("FSA_DATA_DIR", str(data))
    from fsa_jax.data.corpus_source import CorpusSource

    source = CorpusSource("analysis")
    assert len(source.list_shards("train")) == 2 and source.num_input_examples("train") == TRAINED
    seen = [
        list(source.get_dataset("train", shuffle=False, shard_info=seqio.ShardInfo(index, 2)).as_numpy_iterator())
        for index in range(2)
    ]
    ids = [example["id"] for part in seen for example in part]
    assert len(ids) == len(set(ids)) == TRAINED
    assert len({int(example["row"]) for part in seen for example in part}) == TRAINED


def test_a_missing_corpus_and_impossible_ablations(tmp_path, monkeypatch, data):
    from fsa_jax.data.corpus_source import Ablation, CorpusSource, _rates

    monkeypatch.setenv("FSA_DATA_DIR", str(tmp_path))
    with pytest.raises(MissingDataError, match="fsa corpus"):
        CorpusSource("analysis").get_dataset("train")
    bad: Any
    for bad in ({"implicit_share": 2.0}, {"size": 0}, {"max_hallucination": -1.0}):
        with pytest.raises(SettingError):
            Ablation(**bad)
    with pytest.raises(DataError):
        _rates(Ablation(implicit_share=0.5), [5] + [0] * 9)
    keep = _rates(Ablation(implicit_share=0.5), [10] + [0] * 8 + [90])
    assert np.allclose([float(rate) for rate in keep], [1 / 9, 1])


def test_the_corpus_with_any_settings_is_a_task_for_gin(data, monkeypatch):
    import seqio

    from fsa_jax.data.ablations import ABLATIONS, corpus_task

    monkeypatch.setenv("FSA_DATA_DIR", str(data))
    name = corpus_task(max_hallucination=0.1, size=300)
    assert corpus_task(max_hallucination=0.1, size=300) == name != corpus_task(max_hallucination=0.1, size=301)
    mixture = seqio.get_mixture_or_task(name)
    assert isinstance(mixture, seqio.Mixture) and len(mixture.tasks) == 2
    alone = seqio.get_mixture_or_task(corpus_task(forms=["analysis"], reasoning=False))
    assert isinstance(alone, seqio.Task) and "analysis" in alone.name
    with pytest.raises(SettingError):
        corpus_task(forms=[])
    found = list(alone.source.get_dataset("validation", shuffle=False).take(3).as_numpy_iterator())
    assert len(found) == 3 and all(b"Reasoning" not in example["targets"] for example in found)
    assert {"_no_reasoning", "_grounded", "_implicit_50", "_10k"} <= set(ABLATIONS)


def test_a_source_that_is_no_checked_text_is_named(tmp_path):
    (tmp_path / "generations" / "shard-0-of-1").mkdir(parents=True)
    with pytest.raises(DataError, match=r"found a store of fsa teach\n.*run fsa check first"):
        files(tmp_path / "generations")
    with pytest.raises(MissingDataError, match="expected the output of fsa check"):
        files(tmp_path / "chekced")


def test_reviews_are_sampled_from_a_tfds_dataset(data, tmp_path, capsys):
    from fsa_jax.reviews.parquet_files import read_reviews

    prepared = data / "corpus" / "sentiment_corpus" / "analysis" / "1.0.0"
    options = [
        "--columns",
        '{"text": "review", "stars": "opinions"}',
        "--stars_ratio",
        '{"2": 1}',
        "--near_duplicates",
        "null",
    ]
    output = tmp_path / "out.parquet"
    source = f"computers=tfds:{prepared}:validation"
    assert main(["sample", source, str(output), "--size", "50", *options]) == 0
    found = list(read_reviews(output))
    assert len(found) == 50 and {(review.stars, review.domain) for review in found} == {(2.0, "computers")}
    assert {review.id for review in found} <= {
        row["review_id"].decode() for row in read(data, "analysis", "validation")
    }
    assert main(["sample", "tfds:no_such_dataset", str(tmp_path / "none.parquet")]) == 2
    assert main(["sample", f"tfds:{prepared}:test", str(tmp_path / "none.parquet")]) == 2
    assert "train, validation" in capsys.readouterr().err
