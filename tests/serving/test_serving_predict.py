from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import ctranslate2
import jax
import numpy as np
import pytest
import sentencepiece

from fsa_base.errors import FsaError, SettingError, VocabularyError
from fsa_jax.cli.main import main
from fsa_jax.serving import Predictor, student
from fsa_jax.serving import predict_file as predict_module
from fsa_jax.serving.export_ct2 import write_ct2
from fsa_jax.serving.inputs import Row, read_rows
from fsa_jax.serving.predict_file import predict_file
from fsa_jax.serving.prediction_record import Prediction, read_prediction
from fsa_jax.tokenizers.t5 import T5Tokenizer
from fsa_jax.weights import families
from fsa_jax.weights.weight_checkpoints import load_weights, save_weights


@pytest.fixture(scope="module")
def predictor(checkpoint, vocabulary):
    return Predictor(checkpoint, vocabulary=vocabulary, max_output_length=8)


@pytest.fixture
def rows(texts):
    return [Row(f"r{i}", text) for i, text in enumerate(texts)]


def test_predictions_do_not_depend_on_the_batch_size(predictor, texts):
    expected = [p.generated for p in predictor.predict(texts, batch_size=1)]
    for batch_size in (3, 32):
        assert [p.generated for p in predictor.predict(texts, batch_size=batch_size)] == expected
    assert len(set(expected)) > 1


def test_predictions_are_in_the_order_of_the_input(predictor, rows, tmp_path):
    outcome = predict_file(predictor, iter(rows), tmp_path / "out.jsonl", settings={}, batch_size=8)
    written = [Prediction.model_validate_json(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [(p.id, p.text) for p in written] == rows
    assert outcome.predicted == len(rows)
    assert [file.name for file in tmp_path.iterdir()] == ["out.jsonl"]


class Stopped(Exception):
    """Replaces the end of the process."""


def stop_after(chunks: int, monkeypatch) -> None:
    """Stops runs after a number of chunks were written."""
    real, calls = os.fsync, []

    def stop(descriptor: int) -> None:
        calls.append(descriptor)
        real(descriptor)
        if len(calls) == chunks:
            monkeypatch.setattr(predict_module.os, "fsync", real)
            raise Stopped

    monkeypatch.setattr(predict_module, "CHUNK", 5)
    monkeypatch.setattr(predict_module.os, "fsync", stop)


@pytest.mark.parametrize("damage", ["none", "half a line", "zeros", "a whole line more"])
def test_a_stopped_run_is_resumed(damage, predictor, rows, tmp_path, monkeypatch):
    """The output equals that of an uninterrupted run byte for byte, whatever the stopped run left at its end."""
    monkeypatch.setattr(predict_module, "CHUNK", 5)
    whole = predict_file(predictor, iter(rows), tmp_path / "whole.jsonl", settings={"a": 1})
    stop_after(3, monkeypatch)
    out, part = tmp_path / "out.jsonl", tmp_path / ".out.jsonl.partial"
    with pytest.raises(Stopped):
        predict_file(predictor, iter(rows), out, settings={"a": 1})
    assert not out.exists()
    written = part.read_bytes()
    line = written.splitlines(keepends=True)[-1]
    left = {"half a line": written[:-20], "zeros": written[:-20] + b"\0" * 20 + b"\n"}
    left["a whole line more"] = written + line
    part.write_bytes(left.get(damage, written))
    outcome = predict_file(predictor, iter(rows), out, settings={"a": 1})
    resumed = 15 if damage in ("none", "a whole line more") else 10
    assert (outcome.resumed, outcome.predicted) == (resumed, len(rows) - resumed)
    assert (outcome.cut, outcome.empty) == (whole.cut, whole.empty)
    assert out.read_bytes() == (tmp_path / "whole.jsonl").read_bytes()
    assert sorted(file.name for file in tmp_path.iterdir()) == ["out.jsonl", "whole.jsonl"]


def test_an_unfinished_output_of_another_run_is_refused(predictor, rows, tmp_path, monkeypatch):
    stop_after(1, monkeypatch)
    out = tmp_path / "out.jsonl"
    with pytest.raises(Stopped):
        predict_file(predictor, iter(rows), out, settings={"input": "a"})
    with pytest.raises(SettingError, match="input 'a', now 'b'"):
        predict_file(predictor, iter(rows), out, settings={"input": "b"})
    with pytest.raises(SettingError, match="'r0' where the input has 'r1'"):
        predict_file(predictor, iter(rows[1:]), out, settings={"input": "a"})
    predict_file(predictor, iter(rows), out, settings={"input": "b"}, overwrite=True)
    assert len(out.read_text().splitlines()) == len(rows)


def fsa(*arguments: object) -> int:
    return main([str(argument) for argument in arguments])


@pytest.fixture
def stopped(checkpoint, vocabulary, texts, tmp_path, monkeypatch):
    """The command line of a stopped run: a MODEL_DIR with one checkpoint, and 10 of 24 rows written."""
    model_dir, reviews = tmp_path / "model", tmp_path / "reviews.txt"
    shutil.copytree(checkpoint, model_dir / "checkpoint_7")
    shutil.copy(vocabulary, tmp_path / "spiece.model")
    monkeypatch.setenv("FSA_VOCAB", str(tmp_path / "spiece.model"))
    reviews.write_text("\n".join(texts))
    command = ["predict", model_dir, reviews, tmp_path / "out.jsonl", "--max_output_length", 8]
    assert fsa(*command[:3], tmp_path / "whole.jsonl", *command[4:]) == 0
    stop_after(2, monkeypatch)
    with pytest.raises(Stopped):
        fsa(*command)
    return command


def newer(model_dir: Path, checkpoint: Path) -> None:
    """Writes a checkpoint of a later step with other weights."""
    other = jax.tree.map(lambda leaf: leaf * np.float32(-1.5), load_weights(checkpoint))
    save_weights(model_dir, 9, other)


def test_a_resumed_run_uses_its_first_checkpoint(stopped, checkpoint, tmp_path, capsys):
    """If MODEL_DIR has a newer checkpoint by then, its predictions are not mixed with those of the older one."""
    newer(tmp_path / "model", checkpoint)
    assert fsa(*stopped) == 0
    assert (tmp_path / "out.jsonl").read_bytes() == (tmp_path / "whole.jsonl").read_bytes()
    assert "checkpoint_7" in capsys.readouterr().err


def test_a_run_whose_checkpoint_is_missing_is_refused(stopped, checkpoint, tmp_path, capsys):
    newer(tmp_path / "model", checkpoint)
    shutil.rmtree(tmp_path / "model" / "checkpoint_7")
    assert fsa(*stopped) == 2
    assert "checkpoint_7" in (error := capsys.readouterr().err) and "--overwrite" in error
    assert not (tmp_path / "out.jsonl").exists()
    assert fsa(*stopped, "--overwrite") == 0
    fsa("predict", tmp_path / "model", stopped[2], tmp_path / "new.jsonl", "--max_output_length", 8)
    assert (tmp_path / "out.jsonl").read_bytes() == (tmp_path / "new.jsonl").read_bytes()


@pytest.mark.parametrize("changed", ["checkpoint", "vocabulary", "input", "setting"])
def test_a_run_is_not_resumed_with_anything_else(changed, stopped, checkpoint, tmp_path, texts, capsys, monkeypatch):
    """The contents of the files are compared, not their paths."""
    if changed == "checkpoint":
        shutil.rmtree(tmp_path / "model" / "checkpoint_7")
        newer(tmp_path / "model", checkpoint)
        (tmp_path / "model" / "checkpoint_9").rename(tmp_path / "model" / "checkpoint_7")
    elif changed == "vocabulary":
        train = "--vocab_size=140 --pad_id=0 --eos_id=1 --unk_id=2 --bos_id=-1 --hard_vocab_limit=false"
        (tmp_path / "texts.txt").write_text("\n".join(texts))
        sentencepiece.SentencePieceTrainer.Train(  # pyright: ignore[reportAttributeAccessIssue]
            f"--input={tmp_path}/texts.txt --model_prefix={tmp_path}/spiece --minloglevel=2 {train}"
        )
    elif changed == "input":
        Path(stopped[2]).write_text("\n".join([*texts[:-1], "another end"]))
    assert fsa(*stopped, *(["--beams", 2] if changed == "setting" else [])) == 2
    word = {"checkpoint": "model content", "vocabulary": "vocabulary", "input": "input", "setting": "beams 1, now 2"}
    assert word[changed] in capsys.readouterr().err
    assert not (tmp_path / "out.jsonl").exists()
    assert len((tmp_path / ".out.jsonl.partial").read_text().splitlines()) == 10


def test_an_unfinished_output_of_an_earlier_version_is_not_resumed(stopped, tmp_path, capsys):
    """Such an output does not record the checkpoint that it was made with."""
    (tmp_path / "out.jsonl.part").write_text("")
    (tmp_path / "out.jsonl.part.json").write_text("{}")
    assert fsa(*stopped) == 2
    assert "rm " in capsys.readouterr().err


def test_an_output_that_exists_is_refused(predictor, rows, tmp_path):
    out = tmp_path / "out.jsonl"
    out.write_text("mine")
    for overwrite in (False, True):
        with pytest.raises(SettingError, match="that does not exist"):
            predict_file(predictor, iter(rows), out, settings={}, overwrite=overwrite)
    assert out.read_text() == "mine"
    out.unlink()
    for overwrite in (False, True):
        predict_file(predictor, iter(rows[:3]), out, settings={}, overwrite=overwrite)
        with pytest.raises(SettingError, match="--overwrite"):
            predict_file(predictor, iter(rows[:3]), out, settings={})


@pytest.mark.parametrize(
    "name", ["out.jsonl.gz", "out.csv.zst", "out.tsv", "out.PQ", "out.xlsx", "out.txt", "mine.jsonl"]
)
def test_an_output_that_cannot_be_written_is_refused_before_anything_is_read(name, tmp_path, capsys):
    (tmp_path / "mine.jsonl").write_text("mine")
    # Neither the model nor the input exists.
    assert fsa("predict", tmp_path / "model", tmp_path / "in.txt", tmp_path / name) == 2
    said = capsys.readouterr().err
    assert f"{name}: expected a path that does not exist" in said or "in .csv or .parquet, or in .jsonl for" in said
    assert [file.name for file in tmp_path.iterdir()] == ["mine.jsonl"]


@pytest.mark.parametrize(
    ("trained", "task"),
    [
        ("'fsa_distill'", "analysis"),
        ("'fsa_chat_distill'", "analysis"),
        ("'fsa_corpus_analysis'", "analysis"),
        ("@ablations.corpus_task()", "analysis"),
        ("'fsa_rewriting'", "rewriting"),
        ("'fsa_acsa_rest16'", "acsa"),
        ("'fsa_atsa_rest14'", "atsa"),
        ("(", "atsa"),
    ],
)
def test_the_task_is_by_default_that_of_the_run(trained, task, checkpoint, vocabulary, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(checkpoint.parent, run)
    (run / "config.gin").write_text(f"MIXTURE_OR_TASK_NAME = {trained}\n")
    for model in (run, run / checkpoint.name):
        assert Predictor(model, vocabulary=vocabulary).identity["task"] == task
    assert Predictor(run, vocabulary=vocabulary, task="atsa").task == "atsa"


def test_outputs_that_no_codec_can_read_are_shown(checkpoint, vocabulary, texts, tmp_path, capsys):
    reviews, out = tmp_path / "in.txt", tmp_path / "out.jsonl"
    reviews.write_text("\n".join(texts[:3]))
    options = ["--vocabulary", str(vocabulary), "--max-output-length", "8"]
    assert main(["predict", str(checkpoint), str(reviews), str(out), *options]) == 0
    said = capsys.readouterr()
    assert "3 have no opinion\nno output can be read as atsa, such as '" in said.out and "task:" not in said.err


def test_long_texts_are_not_tokenized_completely(predictor):
    """Only the start of a long text is tokenized, and the text is marked as cut even if only blanks were dropped."""
    (found,) = predictor.predict(["good " + " " * 2_000_000 + "bad"])
    assert found.cut


def test_long_reviews_are_cut_and_marked(checkpoint, vocabulary):
    predictor = Predictor(checkpoint, vocabulary=vocabulary, max_input_length=8, max_output_length=4)
    short, long = predictor.predict(["OK", "very good " * 20])
    assert (short.cut, long.cut) == (False, True)


def test_generated_text_becomes_records_with_offsets():
    text = "Bread is good, the bread is fresh, the service slow."
    found = read_prediction("atsa", "1", text, "bread | positive ; service | negative ; wine | positive", -0.5, False)
    assert [(a.target, a.polarity, a.start, a.end) for a in found.aspects] == [
        ("bread", "positive", 19, 24),
        ("service", "negative", 39, 46),
    ]
    twice = read_prediction(
        "atsa", "1", "no bread, no bread", "bread | negative ; bread | negative ; bread | neutral", 0, False
    )
    assert [a.start for a in twice.aspects] == [3, 13, 13]
    found = read_prediction("acsa", "1", text, "food quality | positive", -0.5, False)
    assert [(a.category, a.polarity) for a in found.aspects] == [("food quality", "positive")]
    analysis = 'Opinion Target 1: "bread"\nAspect: Food\nSentiment: Very Positive\nReasoning: good'
    opinion = read_prediction("analysis", "1", text, analysis, 0, False).opinions[0]
    assert (opinion.target, opinion.sentiment) == ("bread", "very positive")


def _write(path: Path, kind: str, rows: list[Row]) -> Path:
    file = path / f"in.{kind}"
    if kind == "jsonl":
        file.write_text("".join(json.dumps(row._asdict()) + "\n" for row in rows))
    elif kind == "csv":
        import csv

        with open(file, "w", newline="") as stream:
            csv.writer(stream).writerows([("id", "text"), *rows])
    elif kind == "parquet":
        import pyarrow
        import pyarrow.parquet

        pyarrow.parquet.write_table(pyarrow.table({"id": [r.id for r in rows], "text": [r.text for r in rows]}), file)
    return file


@pytest.mark.parametrize("kind", ["jsonl", "csv", "parquet"])
def test_every_kind_of_file_gives_the_same_rows(kind, tmp_path):
    rows = [Row("a", 'say "no", twice\nor more'), Row("b", "caf\u00e9 \u2028 bar"), Row("7", "")]
    assert list(read_rows(_write(tmp_path, kind, rows))) == rows


def test_text_files_have_one_review_per_line(tmp_path):
    (tmp_path / "in.txt").write_bytes("\ufeffone\r\ntwo\n\nthree".encode())
    assert list(read_rows(tmp_path / "in.txt")) == [Row("0", "one"), Row("1", "two"), Row("2", ""), Row("3", "three")]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("in.jsonl", b'{"text": "a"}\n{"text": "b"', "in.jsonl:2"),
        ("in.jsonl", b'{"body": "a"}\n', "--text-column COLUMN; the columns are 'body'"),
        ("in.jsonl", b"[1]\n", "list"),
        ("in.jsonl", b'{"text": "\xff"}\n', "UTF-8"),
        ("in.csv", b"id,body\n1,a\n", "the columns are 'id', 'body'"),
        ("in.parquet", b"no parquet", "Parquet"),
        ("in.xml", b"", "xml"),
    ],
)
def test_bad_input_names_its_place(name, content, message, tmp_path):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(FsaError, match=message):
        list(read_rows(tmp_path / name))


def test_another_students_vocabulary_is_refused(vocabulary, tmp_path):
    """Otherwise a student with 64,000 pieces would be read with T5's 32,000 if its own vocabulary is not given."""
    ids = T5Tokenizer(vocabulary).size
    family = families.family_of({"model_type": "t5"})
    for rows in (ids - 1, ids, ids + 127):
        assert student._tokens(family, None, vocabulary, rows, "").size == ids
    for rows in (ids - 2, ids + 128):
        with pytest.raises(VocabularyError, match="--vocabulary FILE"):
            student._tokens(family, None, vocabulary, rows, "")
    shutil.copy(vocabulary, tmp_path / "spiece.model")
    assert student._tokens(family, tmp_path, None, ids + 500, "").size == ids


def test_what_does_not_fit_the_student_is_named(checkpoint, vocabulary, tmp_path, monkeypatch):
    """Not the student is damaged, but the engine, the device or the instruction is another student's."""
    monkeypatch.setattr(ctranslate2, "get_cuda_device_count", lambda: 0)
    out = tmp_path / "out"
    out.mkdir()
    write_ct2(student.load_student(checkpoint, vocabulary=vocabulary), out, "float32")
    cases: list[tuple[Path, dict[str, Any], str]] = [
        (out, {"engine": "jax"}, "found an output of fsa export-ct2\n.*without --engine"),
        (out, {"device": "cuda"}, "device: expected an NVIDIA GPU with a driver, found none"),
        (out, {"instruction": "foo"}, "instruction: expected that of the export, '', found 'foo'"),
        (checkpoint, {"instruction": "foo", "vocabulary": vocabulary}, "T5 student reads only the review, found 'foo'"),
    ]
    for model, options, message in cases:
        with pytest.raises(FsaError, match=message):
            Predictor(model, **options)


def test_a_missing_model_or_vocabulary_is_an_error(tmp_path, checkpoint):
    with pytest.raises(FsaError, match="a model"):
        Predictor(tmp_path / "nowhere")
    with pytest.raises(FsaError, match="SentencePiece"):
        (tmp_path / "spiece.model").write_text("none")
        Predictor(checkpoint, vocabulary=tmp_path / "spiece.model")
