"""Small models as Hugging Face files."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hf_models import QWEN3, T5, write_model


@pytest.fixture
def t5(tmp_path: Path) -> Path:
    """A T5 v1.0 with 32,101 embedding rows, like the authors' students."""
    write_model(tmp_path / "t5", T5)
    return tmp_path / "t5"


@pytest.fixture
def qwen(tmp_path: Path) -> Path:
    """A Qwen3 model."""
    write_model(tmp_path / "qwen", QWEN3)
    return tmp_path / "qwen"


@pytest.fixture
def edit_config() -> Callable[..., None]:
    """Changes keys of a model's config.json."""

    def edit(directory: Path, **changes: Any) -> None:
        file = directory / "config.json"
        file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))

    return edit
