"""Makes the artefacts of this folder with the installed version of fsa_jax; see README.md."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from fsa_jax.demo import vocabulary
from fsa_jax.synthetic.files import TEACHER_FILE, generate
from fsa_jax.synthetic.oracle import Oracle
from fsa_jax.synthetic.world import SplitSizes, draw_reviews
from fsa_jax.teacher.prompts import load_prompt

HERE = Path(__file__).resolve().parent
MODEL = "test-teacher"
"""The model name of benchmarks/teacher_server.py."""
SEED, REVIEWS = 3, 60
SIZES = SplitSizes(train=40, dev=12, test=12, hard_test=12)
VOCABULARY_ROWS = 384
FIRST_STEPS, LAST_STEPS = 40, 60
TASK = "fsa_atsa_rest14"


def serve(known: dict[str, Any], answers: list[str]) -> str:
    """Starts a server that answers like the oracle teacher; returns its URL. Adds each answer's text to ``answers``."""
    oracle, rewriting = Oracle(SEED, 0.2, 0.2), load_prompt("rewriting").system

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            request = json.loads(self.rfile.read(int(self.headers["content-length"])))
            said = "\n".join(message["content"] for message in request["messages"])
            review = next(review for text, review in known.items() if text in said)
            form = "rewriting" if rewriting.strip()[:60] in said else "analysis"
            text = oracle.write(review, form) or "There is no opinion in this review."
            choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
            usage = {"prompt_tokens": 50, "completion_tokens": 40, "total_tokens": 90}
            body = {"id": "x", "object": "chat.completion", "model": MODEL, "choices": [choice], "usage": usage}
            self._send(body)
            answers.append(text)

        def do_GET(self) -> None:
            self._send({"object": "list", "data": [{"id": MODEL, "object": "model"}]})

        def _send(self, body: dict) -> None:
            time.sleep(0.02)
            data = json.dumps(body).encode()
            self.send_response(200)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return f"http://127.0.0.1:{server.server_port}/v1"


def run(*words: object) -> None:
    print("$", *words, flush=True)
    subprocess.run([sys.executable, "-m", *map(str, words)], check=True)


def fsa(*words: object) -> None:
    run("fsa_jax.cli.main", *words)


def train(model_dir: Path, steps: int) -> None:
    bindings = [f"--gin.MODEL_DIR='{model_dir}'", f"--gin.TRAIN_STEPS={steps}"]
    run("t5x.train", f"--gin_file={HERE / 'student.gin'}", *bindings)


def losses(model_dir: Path) -> dict[int, float]:
    """The losses by step."""
    rows = map(json.loads, (model_dir / "train" / "metrics.jsonl").read_text().splitlines())
    return {row["step"]: row["loss"] for row in rows}


def main() -> None:
    out, torch_python = Path(sys.argv[1]).resolve(), sys.argv[2]
    out.mkdir(parents=True)
    recorded: dict[str, Any] = {}
    data = out / "data"
    os.environ |= {"FSA_DATA_DIR": str(data), "FSA_VOCAB": str(out / "spiece.model"), "JAX_PLATFORMS": "cpu"}
    os.environ["XLA_FLAGS"] = ""
    generate(data, SEED, REVIEWS, SIZES, Oracle(SEED, 0.05, 0.05))
    vocabulary.train(data / TEACHER_FILE, VOCABULARY_ROWS - 101, out / "spiece.model")
    shutil.rmtree(data / "teacher")

    # reviews, a finished store, and one whose job was killed
    fsa("sample", data / "reviews/reviews.jsonl", out / "reviews.parquet", "--size", 50, "--seed", 1)
    known = {review.review.text: review for review in draw_reviews(SEED, REVIEWS)}
    answers: list[str] = []
    endpoint = serve(known, answers)
    teach = ["fsa_jax.cli.main", "teach", out / "reviews.parquet"]
    options = ["--endpoint", endpoint, "--in-flight", "4"]
    run(*teach, out / "store", MODEL, *options)
    recorded["requests"] = len(answers)
    answers.clear()
    words = [sys.executable, "-m", *map(str, [*teach, out / "unfinished_store", MODEL, *options])]
    with subprocess.Popen(words) as process:
        while len(answers) < 45:
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
    recorded["unfinished_requests"] = len(answers)

    # check and corpus
    fsa("check", out / "store", out / "checked", "--reviews", out / "reviews.parquet", "--workers", 1)
    fsa("corpus", out / "checked", data / "corpus", "--held_out", 4)

    # a stopped training run, and its continuation
    model_dir = out / "model_dir"
    train(model_dir, FIRST_STEPS)
    going_on = out / "going_on"
    shutil.copytree(model_dir, going_on)
    train(going_on, LAST_STEPS)
    recorded["losses"] = {step: loss for step, loss in losses(going_on).items() if step > FIRST_STEPS}
    shutil.rmtree(going_on)

    # exports and predictions
    fsa("export-ct2", model_dir, out / "ct2", "--quantization", "float32", "--tolerance", 1)
    subprocess.run(
        [torch_python, "-m", "fsa_jax.cli.main", "export-hf", model_dir, out / "hf", "--tolerance", "1"], check=True
    )
    texts = [row["sentence"] for row in json.loads((data / "fsa/atsa/rest14/dev.json").read_text("utf-8-sig"))]
    (out / "sentences.txt").write_text("".join(f"{text}\n" for text in texts))
    for name, model in {"model_dir": model_dir, "hf": out / "hf", "ct2": out / "ct2"}.items():
        lines = out / "predictions.jsonl"
        fsa("predict", model, out / "sentences.txt", lines, "--task", "rewriting", "--max_output_length", 12)
        rows = map(json.loads, lines.read_text().splitlines())
        recorded[f"predictions_{name}"] = [[row["generated"], row["score"]] for row in rows]
        lines.unlink()

    (HERE / "recorded.json").write_text(json.dumps(recorded, indent=1, ensure_ascii=False) + "\n")
    (out / "reviews.report.json").unlink()
    for entry in sorted(out.iterdir()):
        with tarfile.open(HERE / f"{entry.name}.tar.xz", "w:xz") as archive:
            archive.add(entry, entry.name)


if __name__ == "__main__":
    main()
