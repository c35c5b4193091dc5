"""The paths with which ``fsa train`` started a run, in ``MODEL_DIR/fsa_train.json``; config.gin does not have them."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any

from fsa_base import untrusted_json
from fsa_base.disk import as_path, replacing
from fsa_base.errors import SettingError
from fsa_jax.common.paths import DATA_DIR_VARIABLE, STUDENT_VARIABLE
from fsa_jax.tokenizers.t5 import VOCABULARY_VARIABLE

RECORD = "fsa_train.json"
VARIABLES = (DATA_DIR_VARIABLE, VOCABULARY_VARIABLE, STUDENT_VARIABLE)


def write(model_dir: str, environment: Mapping[str, str]) -> None:
    """Writes the environment variables of a run's command, with absolute paths."""
    directory = as_path(model_dir)
    directory.mkdir(parents=True, exist_ok=True)
    paths = {name: os.path.abspath(environment[name]) for name in VARIABLES if name in environment}
    with replacing(directory / RECORD) as partial:
        partial.write_text(json.dumps(paths, indent=2) + "\n")


def read(model_dir: Any) -> dict[str, str]:
    """The environment variables with which ``fsa train`` started the run; empty if it was started by hand.

    Raises:
      SettingError: the file is damaged.
    """
    file = as_path(model_dir) / RECORD
    if not file.exists():
        return {}
    try:
        content = untrusted_json.parse(file.read_bytes())
        if not isinstance(content, dict):
            raise TypeError("no object")
        return {name: str(content[name]) for name in VARIABLES if name in content}
    except (untrusted_json.UntrustedJsonError, TypeError) as error:
        raise SettingError(
            file, expected="paths by environment variable", found=str(error), fix="delete it, and set the variables"
        ) from error
