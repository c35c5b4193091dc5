"""The errors of ``--push`` when the Hugging Face Hub does not accept the upload, with the real client."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from fsa_base.errors import CheckpointError
from fsa_jax.serving.push import push_to_hub


@pytest.fixture
def exported(tmp_path) -> Path:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "config.json").write_text("{}")
    return tmp_path / "out"


def test_a_name_that_the_hub_refuses(exported):
    with pytest.raises(CheckpointError, match=r"HFValidationError[\s\S]*hf upload a name/with spaces"):
        push_to_hub(exported, "a name/with spaces", private=True)
    assert [file.name for file in exported.iterdir()] == ["config.json"]


def test_a_hub_that_does_not_answer(exported):
    code = (
        "import sys; from pathlib import Path; from fsa_base.errors import CheckpointError\n"
        "from fsa_jax.serving.push import push_to_hub\n"
        "try: push_to_hub(Path(sys.argv[1]), 'me/student', private=True)\n"
        "except CheckpointError as error: print(error)\n"
    )
    # Nothing listens on port 9; without a token the client would not send a request.
    environment = {**os.environ, "HF_ENDPOINT": "http://127.0.0.1:9", "HF_TOKEN": "hf_none"}
    command = [sys.executable, "-c", code, str(exported)]
    run = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    assert "hub repository me/student: expected a repository that this machine may write" in run.stdout
    assert "hf upload me/student" in run.stdout
