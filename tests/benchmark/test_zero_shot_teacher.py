"""A teacher gets the questions of a zero-shot evaluation, and its answers are kept."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from fsa_base.errors import TeacherError
from fsa_jax.benchmark.zero_shot import examples_of
from fsa_jax.benchmark.zero_shot_run import Task, evaluate, recompute
from fsa_jax.benchmark.zero_shot_teacher import ZeroShotTeacher, read_answer
from fsa_jax.cli import main as cli
from fsa_jax.common.records import LabelledAspect, LabelledSentence, Polarity

ANSWERS = {"food": "Sentiment: Very Positive", "staff": "Sentiment: Negative", "menu": "I would rather not say."}


class Server:
    """An OpenAI-compatible server that answers by the target, and keeps the prompts."""

    def __init__(self) -> None:
        self.prompts: list[str] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                request = json.loads(self.rfile.read(int(self.headers["content-length"])))
                prompt = request["messages"][-1]["content"]
                outer.prompts.append(prompt)
                answer = next(answer for target, answer in ANSWERS.items() if f"Target: {target}" in prompt)
                choice = {"index": 0, "message": {"role": "assistant", "content": answer}, "finish_reason": "stop"}
                usage = {"prompt_tokens": 9, "completion_tokens": 3}
                data = json.dumps({"object": "chat.completion", "choices": [choice], "usage": usage}).encode()
                self.send_response(200)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, format: str, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/v1"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.close()


@pytest.fixture
def task() -> Task:
    labels: list[tuple[str, Polarity]] = [("food", "positive"), ("staff", "positive"), ("menu", "neutral")]
    aspects = tuple(LabelledAspect(target=target, polarity=polarity) for target, polarity in labels)
    # The same ID in the original and in the hard set, as in the released data.
    sentences = [
        LabelledSentence(id="1", text="food, staff,\nmenu", aspects=aspects, hard=hard) for hard in (False, True)
    ]
    examples, left_out = examples_of(sentences, "atsa", "here")
    return Task("atsa/mine", tuple(examples), left_out, ())


def test_answers_are_read_scored_and_kept(server, task, tmp_path):
    teacher = ZeroShotTeacher("org/model", tmp_path / "store", {"endpoint": server.url})
    found = evaluate([teacher], [task], tmp_path / "out")
    assert len(server.prompts) == 6
    assert "food, staff, menu" in server.prompts[0]
    run = found.runs["org/model", "atsa/mine"]
    assert [one.said for one in run] == ["positive", "negative", None] * 2
    assert [one.failure is None for one in run] == [True, True, False] * 2
    assert "rather not say" in str(run[2].failure)
    row = next(row for row in found.tables.scores if row.subset == "all")
    assert row.scores["accuracy"].mean == pytest.approx(1 / 3)
    assert (row.unanswered, row.mass, dict(row.macro_f1)) == (2, None, {})
    assert recompute(tmp_path / "out") == found.tables
    again = evaluate([teacher], [task], tmp_path / "again")
    assert again.runs == found.runs
    assert len(server.prompts) == 6, "answers are asked once"


def test_a_teacher_that_does_not_answer_is_an_error(server, task, tmp_path):
    server.close()
    teacher = ZeroShotTeacher("model", tmp_path / "store", {"endpoint": server.url, "max_attempts": 1})
    with pytest.raises(TeacherError, match="a server that answers"):
        evaluate([teacher], [task], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_stopped_job_is_an_error(server, task, tmp_path):
    options = {"endpoint": server.url, "max_tokens_total": 1}
    with pytest.raises(TeacherError, match="budget"):
        evaluate([ZeroShotTeacher("model", tmp_path / "store", options)], [task], tmp_path / "out")


@pytest.mark.parametrize(
    ("text", "polarity"),
    [
        ("Sentiment: Positive", "positive"),
        ("**Sentiment:** Very Negative", "negative"),
        ("Here is my answer:\nSentiment: Neutral\nBecause it is plain.", "neutral"),
        ("negative", "negative"),
        ("Sentiment: Positive\nSentiment: Negative", None),
        ("Sentiment: the customer is happy", None),
        ("The staff was not positive.", None),
        ("", None),
    ],
)
def test_answers_are_read_strictly(text, polarity):
    assert read_answer(text) == polarity


def test_a_teacher_without_a_store_is_an_error(tmp_path: Path, capsys):
    assert cli.main(["zero-shot", "x", "--task", "rest14", "--teacher", "model"]) == 2
    assert "--store" in capsys.readouterr().err
