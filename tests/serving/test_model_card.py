"""The model card is filled from the files of the run, of the runs before it, of the corpus and of evaluations."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hf_models import QWEN3, write_model
from huggingface_hub import ModelCard

import fsa_jax
from fsa_base.errors import FsaError
from fsa_jax.common.markdown import escaped
from fsa_jax.serving.export_check import Agreement
from fsa_jax.serving.model_card import Card, write_card
from fsa_jax.serving.student import Student, load_student
from fsa_jax.serving.training_record import TrainingRecord, read_record
from fsa_jax.teacher.generation_requests import load_prompt
from fsa_jax.training import run_record
from tests.parity.small_models import write_tokenizer

HOSTILE = "te|ach`er <script>alert(1)</script>\n# x [y](javascript:z) *b*"
DISTILLATION = """
from t5x import utils
TASK_FEATURE_LENGTHS = {'inputs': 128, 'targets': 400}
MODEL_DIR = 'runs/distilled'
INITIAL_CHECKPOINT_PATH = 'weights/base/checkpoint_0'
train/utils.DatasetConfig.mixture_or_task_name = 'fsa_corpus'
train/utils.DatasetConfig.batch_size = 88
train/utils.DatasetConfig.task_feature_lengths = %TASK_FEATURE_LENGTHS
optimizers.OptaxWrapper.optax_optimizer = @optim.rms_scaled_adamw()
optim.rms_scaled_adamw.learning_rate = @optim.cosine()
optim.cosine.peak = 0.003
optim.cosine.total_steps = 200000
trainer.Trainer.learning_rate_fn = @optim.cosine()
starting_weights.parameters_only.path = %INITIAL_CHECKPOINT_PATH
train_script.train.model_dir = %MODEL_DIR
"""
FINETUNING = """
from t5x import utils
MIXTURE_OR_TASK_NAME = 'fsa_atsa_rest14'
MODEL_DIR = 'runs/finetuned'
INITIAL_CHECKPOINT_PATH = 'runs/distilled/checkpoint_900'
train/utils.DatasetConfig.mixture_or_task_name = %MIXTURE_OR_TASK_NAME
train/utils.DatasetConfig.batch_size = 16
infer_eval/utils.DatasetConfig.split = 'validation'
starting_weights.parameters_only.path = %INITIAL_CHECKPOINT_PATH
train_script.train.model_dir = %MODEL_DIR
train_script.train.random_seed = 42
network.T5Config.dropout_rate = 0.1
"""
AGREEMENT = Agreement("pairs", 4, 4, 0, 10, 10, 0.0, 0.0, 1, None)


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with imported weights, a distillation, a fine-tuning with evaluations, and the corpus."""
    for folder, config in (("runs/distilled", DISTILLATION), ("runs/finetuned", FINETUNING)):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "config.gin").write_text(config)
    imported = tmp_path / "weights" / "base"
    imported.mkdir(parents=True)
    (imported / "import.json").write_text(json.dumps({"source": "google-t5/t5-base", "revision": "a" * 40}))
    run = tmp_path / "runs" / "finetuned"
    _scored(run, "fsa_atsa_rest14", {"step": 5, "f1": 1.0}, {"step": 7, "f1": 61.25, "recall": float("nan")})
    _scored(run / "hard", "fsa_atsa_rest14", {"step": 7, "f1": 43.5})
    (run / "hard" / "config.gin").write_text("SPLIT = 'hard'\nutils.DatasetConfig.split = %SPLIT\n")
    corpus = tmp_path / "data" / "corpus" / "sentiment_corpus"
    corpus.mkdir(parents=True)
    known = load_prompt("analysis").hash[:12]
    teachers = {f"Mixtral-8x7B / {known}": 20, f"{HOSTILE} / 0123456789ab": 10}
    parts = {"analysis": {"train": {"rows": 1230, "teachers": teachers}}}
    (corpus / "statistics.json").write_text(json.dumps({"parts": parts, "reviews": 1100}))
    for folder in ("runs/finetuned/checkpoint_7", "runs/distilled/checkpoint_900"):
        (tmp_path / folder).mkdir()
    monkeypatch.setenv("FSA_DATA_DIR", str(tmp_path / "data"))
    return tmp_path


def _scored(directory: Path, task: str, *rows: dict[str, Any]) -> None:
    (directory / "inference_eval").mkdir(parents=True)
    file = directory / "inference_eval" / f"{task}-metrics.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.fixture(scope="module")
def student(checkpoint: Path, vocabulary: Path) -> Student:
    return load_student(checkpoint, vocabulary=vocabulary)


def written(student: Student, root: Path, record: TrainingRecord, **options: Any) -> Any:
    """The card as the Hub's library reads it (Any, because the type of its metadata is set at runtime)."""
    file = root / "README.md"
    card = Card("student", record=record, **options)
    write_card(file, student, card, "transformers", "float32", AGREEMENT, "sentences.txt")
    return ModelCard.load(file)


def test_the_model_card_describes_both_stages_from_their_own_files(root: Path, student: Student) -> None:
    record = read_record(root / "runs" / "finetuned" / "checkpoint_7")
    card = written(student, root, record)
    text = card.text
    assert text.index("### 1. Distillation") < text.index("### 2. Fine-tuning")
    distilled, finetuned = text[text.index("### 1. ") :].split("### 2. ")
    for row in (
        "| Task | fsa_corpus |",
        "| Steps | 900 |",
        "| Longest texts in tokens | inputs 128, targets 400 |",
        "| Learning rate | optim.cosine (peak 0.003, total_steps 200000) |",
        "| Rows of analysis, train | 1,230 |",
        "| Reviews | 1,100 |",
        "| Prompts | analysis-v1, 0123456789ab |",
    ):
        assert row in distilled, text
    for row in ("| Task | fsa_atsa_rest14 |", "| Steps | 7 |", "| Dropout | 0.1 |", "| Random seed | 42 |"):
        assert row in finetuned, text
    assert "Teacher" not in finetuned
    assert "| Started from | google-t5/t5-base at aaaaaaa" in text
    assert "| fsa_atsa_rest14 | validation | f1 | 61.25 |" in text and "| fsa_atsa_rest14 | hard | f1 | 43.5 |" in text
    assert "recall" not in text
    assert str(root) not in card.content and "not said" not in text and "None" not in text
    front = card.data.to_dict()
    assert front["base_model"] == "google-t5/t5-base" and front["language"] == "en"
    results = [
        (one.dataset_type, one.dataset_split, one.metric_type, one.metric_value) for one in card.data.eval_results
    ]
    assert results == [("fsa_atsa_rest14", "validation", "f1", 61.25), ("fsa_atsa_rest14", "hard", "f1", 43.5)]


def test_a_teachers_name_is_no_markup(root: Path, student: Student) -> None:
    text = written(student, root, read_record(root / "runs" / "finetuned" / "checkpoint_7")).text
    (row,) = [line for line in text.splitlines() if line.startswith("| Teacher |")]
    expected = r"te\|ach\`er &lt;script&gt;alert(1)&lt;/script&gt; # x \[y\](javascript:z) \*b\*"
    assert row == f"| Teacher | Mixtral-8x7B, {expected} |"
    assert escaped("a\u2028b\x1b[2Jc_d _e_") == r"a b \[2Jc_d \_e\_"


def test_an_address_in_untrusted_text_becomes_no_link() -> None:
    text = "https://a.example/b_c, HTTP://b.example, www.c.example, WWW.c.example, me@d.example, mailto:e@f.example"
    found = escaped(text)
    assert found.replace("<!-- -->", "") == text
    # What GitHub makes a link without any markup.
    assert not re.search(r"://|www\.|\w@", found, re.IGNORECASE)


def test_the_corpus_is_the_one_of_the_run_or_the_card_says_that_it_was_found_later(
    root: Path, student: Student, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint, run = root / "runs" / "finetuned" / "checkpoint_7", root / "runs" / "distilled"
    assert (
        "| Corpus | found in the data directory at export time" in written(student, root, read_record(checkpoint)).text
    )
    assert "distilled has no record of its data; the card describes" in capsys.readouterr().err
    # What `fsa train` recorded comes first. Here, the corpus is directly in the data directory.
    corpus = root / "other" / "sentiment_corpus"
    corpus.mkdir(parents=True)
    (corpus / "statistics.json").write_text(
        json.dumps({"parts": {"analysis": {"train": {"rows": 55, "teachers": {}}}}})
    )
    (run / "checkpoint_900").touch()
    run_record.write(str(run), {"FSA_DATA_DIR": str(root / "other")})
    text = written(student, root, read_record(checkpoint)).text
    assert "| Rows of analysis, train | 55 |" in text and "| Corpus |" not in text
    assert f"distilled was trained on {corpus}" in capsys.readouterr().err
    # A recorded folder may be gone.
    run_record.write(str(run), {"FSA_DATA_DIR": str(root / "gone")})
    text = written(student, root, read_record(checkpoint)).text
    assert "| Rows of analysis, train | 1,230 |" in text and "| Corpus | found" in text
    assert "| Corpus |" not in written(student, root, read_record(checkpoint), teacher="me", data="mine").text


def test_the_commit_of_a_checkout_with_local_changes_says_so(
    root: Path, student: Student, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = root / "checkout" / "fsa_jax" / "__init__.py"
    package.parent.mkdir(parents=True)
    package.write_text("")
    git = ["git", "-C", str(root / "checkout"), "-c", "user.name=a", "-c", "user.email=a@b.example"]
    for words in (["init", "-q"], ["add", "."], ["commit", "-qm", "first"]):
        subprocess.run([*git, *words], check=True)
    monkeypatch.setattr(fsa_jax, "__file__", str(package))
    assert re.search(r"commit [0-9a-f]{40} \|", written(student, root, TrainingRecord()).text)
    package.write_text("changed = True")
    assert re.search(r"commit [0-9a-f]{40} with local changes \|", written(student, root, TrainingRecord()).text)


def test_options_are_used_in_place_of_what_is_found(root: Path, student: Student) -> None:
    record = read_record(root / "runs" / "finetuned" / "checkpoint_7")
    given = {"data": "Rest14", "teacher": "Qwen3", "recipe": "mine.gin", "license": "mit", "datasets": ("me/reviews",)}
    card = written(student, root, record, **given)
    for row in ("| Data | Rest14 |", "| Teacher | Qwen3 |", "| Recipe | mine.gin |", "| Task | fsa_corpus |"):
        assert row in card.text
    for absent in ("Mixtral", "1,230", "optim.cosine", "Dropout", "Prompts"):
        assert absent not in card.text
    assert card.data.license == "mit" and card.data.datasets == ["me/reviews"]


def test_what_is_unknown_is_left_out(root: Path, student: Student, capsys: pytest.CaptureFixture[str]) -> None:
    """Also a corpus that is newer than the checkpoint, because the student was not trained on it."""
    text = written(student, root, read_record(student.path)).text
    assert "## Training" not in text and "## Scores" not in text and "Started from" not in text
    statistics = root / "data" / "corpus" / "sentiment_corpus" / "statistics.json"
    checkpoint = root / "runs" / "finetuned" / "checkpoint_7"
    os.utime(statistics, (2e9, 2e9))
    assert read_record(checkpoint).stages[0].corpus is None
    assert "is newer than the checkpoint; to describe it: --corpus DIR" in capsys.readouterr().err
    for place in (statistics.parent, statistics.parents[1]):
        corpus = read_record(checkpoint, corpus=place).stages[0].corpus
        assert corpus is not None and corpus.rows == {("analysis", "train"): 1230}
    statistics.write_text('{"parts": []}')
    os.utime(statistics, (1e9, 1e9))
    assert read_record(checkpoint).stages[0].corpus is None
    assert "cannot be read" in capsys.readouterr().err
    with pytest.raises(FsaError, match="statistics of fsa corpus"):
        read_record(checkpoint, corpus=statistics.parent)
    statistics.unlink()
    statistics.parent.rmdir()
    assert read_record(checkpoint).stages[0].corpus is None
    assert "does not exist" in capsys.readouterr().err
    (root / "runs" / "distilled" / "config.gin").unlink()
    assert [stage.kind for stage in read_record(checkpoint).stages] == ["Fine-tuning"]


def test_runs_that_start_from_each_other_end(root: Path) -> None:
    circle = DISTILLATION.replace("weights/base/checkpoint_0", "runs/finetuned/checkpoint_7")
    (root / "runs" / "distilled" / "config.gin").write_text(circle)
    assert len(read_record(root / "runs" / "finetuned" / "checkpoint_7").stages) == 2


def test_scores_of_an_evaluation_elsewhere_are_added_once(root: Path) -> None:
    _scored(root / "elsewhere", "fsa_acsa_rest16", {"step": 7, "f1": 50.0})
    checkpoint = root / "runs" / "finetuned" / "checkpoint_7"
    record = read_record(checkpoint, evaluations=[root / "elsewhere", checkpoint.parent / "hard"])
    assert [(score.task, score.split, score.value) for score in record.scores] == [
        ("fsa_atsa_rest14", "validation", 61.25),
        ("fsa_atsa_rest14", "hard", 43.5),
        ("fsa_acsa_rest16", "", 50.0),
    ]


def test_text_in_the_released_layout_is_described_too(root: Path, student: Student) -> None:
    config = root / "runs" / "distilled" / "config.gin"
    config.write_text(DISTILLATION.replace("'fsa_corpus'", "'fsa_distill'"))
    folder = root / "data" / "teacher"
    folder.mkdir()
    rows = [{"ID": i, "Text": f"Pizza {i}.", "mixtral_response": f"I ate {i}."} for i in range(30)]
    (folder / "text.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for path in (folder / "text.jsonl", folder):
        os.utime(path, (1e9, 1e9))
    text = written(student, root, read_record(root / "runs" / "finetuned" / "checkpoint_7")).text
    assert "| Teacher | mixtral |" in text and "| Rows of rewriting, train | 27 |" in text


def test_the_snippet_of_a_decoder_only_student_asks_like_fsa_predict(root: Path) -> None:
    """The lines that need PyTorch are left out here; tests/parity/test_exports.py runs all."""
    model = root / "model"
    write_model(model, {**QWEN3, "vocab_size": 320})
    write_tokenizer(model)
    student = load_student(model, instruction='Find "opinions".\n```')
    card = written(student, root, TrainingRecord(), folder=str(model))
    assert card.data.license is None and card.data.pipeline_tag == "text-generation"
    (snippet,) = re.findall(r"```python\n(.*?)\n```\n", card.text, re.DOTALL)
    lines = [
        line for line in snippet.splitlines() if "model = " not in line and not re.match(r"inputs|answer|print", line)
    ]
    names: dict[str, Any] = {}
    exec("\n".join(lines), names)
    ids = names["tokenizer"](names["prompt"], add_special_tokens=False)["input_ids"]
    assert ids == student.tokens.encode_input(names["review"], 500)[0]
