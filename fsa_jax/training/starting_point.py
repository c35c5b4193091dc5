"""What a student starts from: a checkpoint, a run, the output of ``fsa import-hf``, or a model on the Hub."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fsa_base import checkpoint_files, run_config, runs
from fsa_base.errors import CheckpointError
from fsa_jax.common.paths import DATA_DIR_VARIABLE, STUDENT_VARIABLE, shown
from fsa_jax.tokenizers.t5 import VOCABULARY_VARIABLE
from fsa_jax.training import recipes, run_record
from fsa_jax.weights import hub

RUNS = Path("runs")
"""Folder of the runs that have a name and no path."""
WEIGHTS = Path("weights")
"""Folder into which models of the Hub are imported."""
_IMPORTED = "hf"


@dataclass(frozen=True)
class StartingPoint:
    """A checkpoint to start from.

    Attributes:
      checkpoint: its path.
      size: the size of its recipe (a key of ``recipes.SIZES``), or ``recipes.CHAT``; None if it is not known.
      environment: the environment variables ``FSA_VOCAB`` and ``FSA_STUDENT`` that belong to it.
    """

    checkpoint: Path
    size: str | None
    environment: dict[str, str]


def model_dir(student: str) -> str:
    """MODEL_DIR of the run of a student: ``runs/NAME``; a name with a slash is the path itself."""
    return student if "/" in student else str(RUNS / student)


def existing(where: str) -> Path | None:
    """The path that a user means by a path or the name of a student, with or without ``@best`` and ``@newest``.

    Returns:
      The path, still with ``@best``; of a path and a run of this name the one with checkpoints, if only one has them.
      None if neither exists.
    """
    found: dict[Path, Path] = {}
    for place in map(Path, dict.fromkeys((where, model_dir(where)))):
        directory, at, choice = str(place).rpartition("@")
        if place.exists():
            found[place] = place
        elif at and choice in ("best", "newest") and Path(directory).exists():
            found[place] = Path(directory)
    with_checkpoints = [
        place
        for place, directory in found.items()
        if checkpoint_files.is_checkpoint(directory) or checkpoint_files.checkpoint_steps(directory)
    ]
    return next(iter([*with_checkpoints, *found]), None)


def find(where: str, option: str = "--from") -> StartingPoint:
    """Finds the checkpoint that an option names.

    Args:
      where: a checkpoint, a run's MODEL_DIR (its newest checkpoint), MODEL_DIR@best, MODEL_DIR@newest, an output
        directory of ``fsa import-hf``, the name of a student in ``runs/``, with or without ``@best``, or a model on the
        Hub, which is imported into ``weights/``. A local path wins.
      option: the option, for errors.

    Raises:
      FsaError: there is no checkpoint, or the model of the Hub cannot be imported.
    """
    if (path := existing(where)) is None and hub.is_name(where) and not Path(where).parent.is_dir():
        path = _from_hub(where)
    if path is not None:
        return _at(checkpoint_files.find_checkpoints(runs.resolve(path))[-1])
    raise CheckpointError(
        f"{option} {shown(Path(where))}",
        expected="a checkpoint, MODEL_DIR or MODEL_DIR@best of a run, an output directory of fsa import-hf, or a model "
        "on the Hub",
        found="nothing" if "/" in where else f"neither that nor {RUNS / where}",
        fix="correct the path; models of the Hub have names such as google-t5/t5-base",
    )


def _from_hub(name: str) -> Path:
    """Imports a model of the Hub, unless the same commit was imported before."""
    from fsa_jax.weights.import_model import RECORD, import_model

    source = hub.fetch(name)
    out = WEIGHTS / f"{source.name.replace('/', '--')}--{(source.revision or '')[:12]}"
    if not (out / RECORD).is_file():
        print(f"importing {source.address} into {out}", file=sys.stderr, flush=True)
        import_model(source.address, out)
    return out


def _at(checkpoint: Path) -> StartingPoint:
    run = checkpoint.parent
    if (run / _IMPORTED / "config.json").is_file():
        return _imported(checkpoint, run / _IMPORTED)
    config = run_config.read_config(run / run_config.CONFIG)
    environment = {name: path for name, path in run_record.read(run).items() if name != DATA_DIR_VARIABLE}
    return StartingPoint(checkpoint, size_of_run(config), environment)


def size_of_run(config: run_config.RunConfig) -> str | None:
    """The size of the recipe of a run, or ``recipes.CHAT``; None if it is none of them."""
    if config.arguments("student_config"):
        return recipes.CHAT
    return recipes.size_of(config.arguments("T5Config"))


def _imported(checkpoint: Path, files: Path) -> StartingPoint:
    import dataclasses

    from fsa_jax.weights import t5
    from fsa_jax.weights.families import family_of
    from fsa_jax.weights.hf_files import read_config

    content = read_config(files)
    if family_of(content).decoder_only:
        return StartingPoint(checkpoint, recipes.CHAT, {STUDENT_VARIABLE: str(checkpoint.parent)})
    network: dict[str, Any] = dataclasses.asdict(t5.config_from_hf(content))
    vocabulary = files / "spiece.model"
    environment = {VOCABULARY_VARIABLE: str(vocabulary)} if vocabulary.is_file() else {}
    return StartingPoint(checkpoint, recipes.size_of(network), environment)
