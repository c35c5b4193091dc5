"""The commands of docs/quickstart.md, executed as they stand there, with a stand-in for the teacher."""

from __future__ import annotations

import csv
import os
import re
import subprocess
import sys
from pathlib import Path

from oracle_server import oracle_server

from fsa_jax.synthetic.oracle import Oracle
from fsa_jax.synthetic.world import draw_reviews

PAGE = Path(__file__).parents[1] / "docs" / "quickstart.md"


def test_six_commands_lead_from_one_csv_to_a_distilled_student_and_its_predictions(tmp_path, real_data_dir):
    settings, commands = re.findall(r"```bash\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
    assert len(commands.splitlines()) <= 6
    known = list(draw_reviews(0, 2000))
    for name, some in {"reviews.csv": known, "unread.csv": known[:4]}.items():
        with open(tmp_path / name, "w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(("review_id", "stars", "text"))
            writer.writerows((one.review.id, one.review.stars, one.review.text) for one in some)
    names = set(re.findall(r"(\w+)=", settings))
    with oracle_server(known, Oracle()) as address:
        ours = {"TEACHER": "oracle", "ENDPOINT": address, "OPENAI_API_KEY": "none", "REVIEWS": "reviews.csv"}
        ours |= {"SIZE": "100", "STEPS": "2", "UNREAD": "unread.csv"}
        assert set(ours) == names
        binaries = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        vocabulary = str(real_data_dir / "t5_vocab" / "spiece.model")
        # One CPU device, as on a user's machine; the other tests have eight.
        environment = {**os.environ, **ours, "PATH": binaries, "FSA_VOCAB": vocabulary, "XLA_FLAGS": ""}
        environment.pop("FSA_DATA_DIR", None)
        ran = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", commands],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    with open(tmp_path / "predictions.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["id"] for row in rows} == {one.review.id for one in known[:4]}
