"""Random weights of the models, made on this machine, because they would not fit into the kit.

    python -m benchmarks.kit.weights NAME --size full …

makes those of the T5, while other slices run.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from benchmarks._contender import STEPS
from benchmarks.kit.rows import ERROR_CHARACTERS, Slice
from benchmarks.kit.sizes import T5_COMMON, T5_FIELDS

FILES = ("hf", "weights.npz", "config.json")


def folder_of(run: Slice, model: str, size: str, data: str) -> Path:
    """A folder with tokens, configuration and weights of a model; waits if another process is making them.

    Without transformers it has the configuration of a T5 only, and our network draws weights of its own.

    Args:
      run: the slice.
      model: ``t5`` or ``decoder``.
      size: its size, as in benchmarks/steps/weights.py.
      data: folder of the tokens in the kit.
    """
    whole = run.scratch / f"{model}-{size}"
    folder = whole / data
    whole.mkdir(exist_ok=True)
    with (whole / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (whole / "config.json").exists():
            _make(run, whole, model, size)
        if not folder.exists():
            shutil.copytree(run.data / data, folder)
            for name in FILES:
                if (whole / name).exists():
                    (folder / name).symlink_to(whole / name)
    return folder


def _make(run: Slice, folder: Path, model: str, size: str) -> None:
    command = [sys.executable, "-P", str(STEPS / "weights.py"), str(folder), "--model", model, "--size", size]
    # The GPU is for the contenders.
    environment = os.environ | {"JAX_PLATFORMS": "cpu", "CUDA_VISIBLE_DEVICES": ""}
    made = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if made.returncode:
        run.row(f"weights of {model} {size}", error=made.stderr[-ERROR_CHARACTERS:])
    if made.returncode and model == "t5":
        (folder / "config.json").write_text(json.dumps({**T5_COMMON, **T5_FIELDS[size]}))


def main() -> None:
    """Makes the weights that most slices need."""
    run = Slice.from_command_line(__doc__)
    folder_of(run, "t5", run.size.model, run.size.packings[0].data)


if __name__ == "__main__":
    main()
