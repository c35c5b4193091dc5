"""The tasks of tasks.py, as the engine and SeqIO's tools read them."""

from __future__ import annotations

import io
import itertools
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import sentencepiece
import seqio

import tasks as _  # noqa: F401 - registers the tasks
from fsa_base.errors import DataError, MissingDataError, SettingError
from fsa_jax.data import train_subsets

ROOT = Path(__file__).parents[1]
LENGTHS = {"inputs": 24, "targets": 40}
FSA_TASKS = ("fsa_atsa_rest14", "fsa_atsa_laptop14", "fsa_acsa_rest16", "fsa_acsa_laptop16")
REVIEWS = 60


def _sentence(number: int, words: bool) -> dict:
    opinions = [("tea", "positive"), ("staff", "negative" if number % 3 else "positive")]
    text = f"The tea was great but not the staff, {number}."
    aspects = [
        {
            "from": str(text.index(target)),
            "to": str(text.index(target) + len(target)),
            "target": target,
            "category": f"{target.upper()}#GENERAL",
            "polarity": polarity,
            **({"opinion_words": "great" if target == "tea" or number % 2 else None} if words else {}),
        }
        for target, polarity in opinions
    ]
    return {"ID": str(number), "sentence": text, "aspects": aspects}


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    """A complete data directory of a very small synthetic world, and its vocabulary."""
    root = tmp_path_factory.mktemp("data")
    for name in ("atsa/rest14", "atsa/laptop14", "acsa/rest16", "acsa/laptop16"):
        directory = root / "fsa" / name
        directory.mkdir(parents=True)
        for file, numbers in {"train": range(20), "dev": range(5), "test": range(6), "hard_test": range(6, 9)}.items():
            rows = [_sentence(number, words="test" in file) for number in numbers]
            (directory / f"{file}.json").write_text(json.dumps(rows), "utf-8-sig")
    rows = [
        {"ID": number, "Text": f"The tea was great,\n{number}.", "Overall": 4.0, "mixtral_response": response}
        for number in range(REVIEWS)
        for response in (
            f'Opinion Target 1: "tea"\nSentiment: Positive\nReasoning: {number}.',
            f" I love tea {number}.",
        )
    ]
    (root / "teacher").mkdir()
    for file, part in {"a.jsonl": rows[:70], "b.jsonl": rows[70:]}.items():
        (root / "teacher" / file).write_text("".join(json.dumps(row) + "\n" for row in part), "utf-8-sig")
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.Train(
        sentence_iterator=iter(
            [f"{row['Text']} {row['mixtral_response']} | ; positive negative staff" for row in rows]
        ),
        model_writer=model,
        vocab_size=120,
        hard_vocab_limit=False,
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=-1,
        minloglevel=2,
    )
    (root / "small.model").write_bytes(model.getvalue())
    return root


@pytest.fixture(autouse=True)
def _configured(data_dir, monkeypatch):
    monkeypatch.setenv("FSA_DATA_DIR", str(data_dir))
    monkeypatch.setenv("FSA_VOCAB", str(data_dir / "small.model"))
    for variable in ("FSA_HELD_OUT", "FSA_HELD_OUT_SEED"):
        monkeypatch.delenv(variable, raising=False)


def _examples(name, split="train", lengths=LENGTHS, **options):
    provider = seqio.get_mixture_or_task(name)
    return list(provider.get_dataset(lengths, split, **{"seed": 3, "num_epochs": 1, **options}).as_numpy_iterator())


def _ids(examples):
    return [example["id"].decode() for example in examples]


def test_importing_tasks_reads_nothing(tmp_path):
    environment = {**os.environ, "FSA_DATA_DIR": str(tmp_path / "absent"), "FSA_VOCAB": str(tmp_path / "absent.model")}
    names = ("fsa_distill", "fsa_analysis", "fsa_corpus_rewriting_10k", "fsa_benchmark", "fsa_acsa_laptop16")
    code = f"import tasks, seqio; print([seqio.get_mixture_or_task(name).name for name in {names}])"
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment, cwd=ROOT
    )
    assert run.stdout.splitlines()[-1] == str(list(names))


def test_teacher_text_is_split_by_review():
    splits = {
        (form, split): set(_ids(_examples(f"fsa_{form}", split)))
        for form in ("analysis", "rewriting")
        for split in ("train", "validation")
    }
    for split in ("train", "validation"):
        assert splits["analysis", split] == splits["rewriting", split]
    assert len(splits["analysis", "validation"]) == REVIEWS // 10
    assert splits["analysis", "train"] | splits["analysis", "validation"] == set(map(str, range(REVIEWS)))
    assert not splits["analysis", "train"] & splits["analysis", "validation"]


def test_teacher_examples():
    task = seqio.get_mixture_or_task("fsa_analysis")
    vocabulary = task.output_features["inputs"].vocabulary
    for example in _examples("fsa_analysis", lengths={"inputs": 5, "targets": 200}):
        assert example["inputs"].shape == (5,) and example["inputs"][-1] == vocabulary.eos_id
        target = example["targets_pretokenized"].decode()
        assert list(example["targets"]) == [*vocabulary.encode(target), vocabulary.eos_id]
        assert np.count_nonzero(example["targets"] == vocabulary.newline_id) == 2
        assert vocabulary.decode(example["targets"]).startswith('Opinion Target 1: "tea"\n')


def test_order_depends_only_on_the_seed():
    assert _ids(_examples("fsa_analysis")) == _ids(_examples("fsa_analysis"))
    assert _ids(_examples("fsa_analysis")) != _ids(_examples("fsa_analysis", seed=4))
    in_order = _ids(_examples("fsa_analysis", shuffle=False))
    assert in_order == sorted(in_order, key=int)


def test_mixtures_hold_all_their_tasks():
    assert seqio.get_mixture_or_task("fsa_distill").num_input_examples("train") == 2 * REVIEWS * 9 // 10
    first = [example["targets"].tolist() for example in _examples("fsa_distill")[:20]]
    vocabulary = seqio.get_mixture_or_task("fsa_distill").output_features["targets"].vocabulary
    forms = {vocabulary.newline_id in target for target in first}
    assert forms == {True, False}
    assert {task.name for task in seqio.get_mixture_or_task("fsa_benchmark").tasks} == set(FSA_TASKS)
    assert seqio.get_mixture_or_task("fsa_benchmark").num_input_examples("train") == 80
    assert _examples("fsa_benchmark")


def test_two_hosts_divide_the_examples():
    # Teacher text has two files: two hosts divide the files, three hosts divide the examples.
    for name, count in (("fsa_rewriting", 2), ("fsa_rewriting", 3), ("fsa_atsa_rest14", 2)):
        parts = [_ids(_examples(name, shard_info=seqio.ShardInfo(index, count))) for index in range(count)]
        assert all(parts)
        assert sorted(itertools.chain(*parts)) == sorted(_ids(_examples(name)))


@pytest.mark.parametrize("name", FSA_TASKS)
def test_fsa_splits(name):
    task = seqio.get_mixture_or_task(name)
    assert len(_examples(name, "hard")) == 3
    assert {split: task.num_input_examples(split) for split in task.splits} == {
        "train": 20,
        "validation": 5,
        "test": 9,
        "original": 6,
        "hard": 3,
        "implicit": 5,
        "multi": 6,
    }


def test_fsa_targets_and_scores():
    for name, expected in (
        ("fsa_atsa_rest14", b"tea | positive ; staff | positive"),
        ("fsa_acsa_rest16", b"tea general | positive ; staff general | positive"),
    ):
        task = seqio.get_mixture_or_task(name)
        examples = _examples(name, "test", shuffle=False)
        assert examples[0]["targets_pretokenized"] == expected
        vocabulary = task.output_features["targets"].vocabulary
        outputs = [vocabulary.decode(example["targets"]) for example in _examples(name, "test", None, shuffle=False)]
        targets = [
            task.postprocess_fn("", example=example, is_target=True)
            for example in _examples(name, "test", shuffle=False)
        ]
        (metric,) = task.metric_fns
        perfect = [
            task.postprocess_fn(text, example=ex, is_target=False) for text, ex in zip(outputs, examples, strict=True)
        ]
        assert metric(targets, perfect) == {"precision": 100.0, "recall": 100.0, "f1": 100.0}
        outputs[0] = expected.decode().replace("tea", "pot")
        wrong = [
            task.postprocess_fn(text, example=ex, is_target=False) for text, ex in zip(outputs, examples, strict=True)
        ]
        scores = metric(targets, wrong)
        assert scores["recall"] == pytest.approx(100 * 17 / 18)
        # A term that is not in the sentence does not count as a prediction; a category does, and is wrong.
        assert scores["precision"] == pytest.approx(100.0 if "atsa" in name else 100 * 17 / 18)


def test_missing_files_name_the_command(tmp_path, monkeypatch):
    monkeypatch.setenv("FSA_DATA_DIR", str(tmp_path))
    for name in ("fsa_analysis", "fsa_atsa_rest14"):
        with pytest.raises(MissingDataError, match="git clone"):
            _examples(name)


def test_shares_of_the_training_data():
    whole = _ids(_examples("fsa_atsa_rest14", shuffle=False))
    first = train_subsets.training_share("fsa_atsa_rest14", examples=7)
    assert _ids(_examples(first, shuffle=False)) == whole[:7]
    drawn = train_subsets.training_share("fsa_atsa_rest14", fraction=0.25, seed=42)
    ids = _ids(_examples(drawn, shuffle=False))
    assert len(ids) == 5 and ids == [identity for identity in whole if identity in ids] != whole[:5]
    assert train_subsets.training_share("fsa_atsa_rest14", fraction=0.25, seed=42) == drawn
    assert (
        _ids(_examples(train_subsets.training_share("fsa_atsa_rest14", fraction=0.25, seed=52), shuffle=False)) != ids
    )
    assert len(_examples(drawn, "validation")) == 5
    of_both = seqio.get_mixture_or_task(train_subsets.training_share("fsa_distill", examples=10))
    assert of_both.num_input_examples("train") == 20
    rest14 = seqio.get_mixture_or_task(train_subsets.training_share("fsa_atsa_rest14", examples=10_000))
    assert rest14.num_input_examples("train") == 20


@pytest.mark.parametrize("options", [{}, {"examples": 3, "fraction": 0.5}, {"examples": 0}, {"fraction": 1.5}])
def test_invalid_shares(options):
    with pytest.raises(SettingError, match="training_share"):
        train_subsets.training_share("fsa_atsa_rest14", **options)


@pytest.fixture(scope="module")
def cache(data_dir, tmp_path_factory):
    """The output of the caching command, several files per split."""
    directory = tmp_path_factory.mktemp("cache")
    environment = {
        **os.environ,
        "FSA_DATA_DIR": str(data_dir),
        "FSA_VOCAB": str(data_dir / "small.model"),
        "PYTHONPATH": str(ROOT),
    }
    command = [
        str(Path(sys.executable).parent / "seqio_cache_tasks"),
        "--tasks=fsa_analysis",
        "--tasks=fsa_rewriting",
        "--module_import=tasks",
        f"--output_cache_dir={directory}",
        "--min_shards=3",
        "--pipeline_options=--runner=apache_beam.runners.portability.fn_api_runner.FnApiRunner,"
        "--direct_num_workers=1,--direct_running_mode=in_memory",
    ]
    run = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=directory, check=False)
    assert run.returncode == 0, run.stderr[-3000:]
    return directory


def test_cached_training_data_equal_uncached(cache):
    seqio.add_global_cache_dirs([str(cache)])
    assert len(list(cache.glob("fsa_analysis/train.tfrecord-*"))) == 3
    for name in ("fsa_analysis", "fsa_distill"):
        for split, shuffle in (("train", True), ("validation", False)):
            cached = _examples(name, split, use_cached=True, shuffle=shuffle)
            fresh = _examples(name, split, use_cached=False, shuffle=shuffle)
            assert len(cached) == len(fresh) > 0
            for one, other in zip(cached, fresh, strict=True):
                assert one.keys() == other.keys()
                for key in one:
                    np.testing.assert_array_equal(one[key], other[key])
    repeated = _examples("fsa_analysis", use_cached=True, num_epochs=2)
    assert _ids(repeated) == _ids(_examples("fsa_analysis", num_epochs=2))


def test_a_cache_with_a_missing_file_is_refused(cache, tmp_path):
    """SeqIO reads the files that exist: training would use an incomplete copy as if it were complete."""
    seqio.add_global_cache_dirs([str(cache)])
    file = next(cache.glob("fsa_analysis/train.tfrecord-00001*"))
    file.rename(tmp_path / file.name)
    seqio.utils._list_files_for_glob.cache_clear()
    try:
        with pytest.raises(DataError, match=r"a cache of 3 files .* found 2"):
            _examples("fsa_analysis", use_cached=True)
    finally:
        (tmp_path / file.name).rename(file)
        seqio.utils._list_files_for_glob.cache_clear()
    assert _examples("fsa_analysis", use_cached=True)
