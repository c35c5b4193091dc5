"""``fsa doctor``: shows what is installed, what is missing, and the command that fixes it."""

from __future__ import annotations

import hashlib
import os
import platform
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import fsa_jax
from fsa_base import checkpoint_files, devices, extras, runs
from fsa_base.errors import SettingError
from fsa_jax.common import installed_files
from fsa_jax.common.paths import DATA_DIR_VARIABLE, data_dir
from fsa_jax.common.training_engine import installed_engine

PACKAGES = (
    "jax",
    "jaxlib",
    "flax",
    "optax",
    "orbax-checkpoint",
    "seqio",
    "tensorflow",
    "tensorflow-text",
    "tensorflow-datasets",
    "transformers",
)
"""Packages that training needs, in the order in which they are printed."""


@dataclass(frozen=True)
class Finding:
    """One line of the report; ``fix`` is set if and only if something is wrong."""

    name: str
    value: str
    fix: str | None = None
    optional: bool = False


def _versions() -> Iterator[Finding]:
    origin = f"checkout {installed_files.root()}" if extras.is_checkout() else "installed from its wheel"
    python = f"on Python {platform.python_version()} ({sys.prefix})"
    yield Finding("fsa_jax", f"{fsa_jax.__version__}, {origin}, {python}")
    for package in PACKAGES:
        try:
            yield Finding(package, metadata.version(package))
        except metadata.PackageNotFoundError:
            yield Finding(package, "not installed", extras.install("cpu"))


def _engine() -> Finding:
    try:
        engine = installed_engine()
    except SettingError as error:
        return Finding("engine", error.found, error.fix)
    if engine is None:
        return Finding("engine", "none", f"{extras.install('cpu')}, or upstream T5X (docs/engine.md)")
    return Finding("engine", f"{engine.distribution} {engine.version}: {engine.description}")


def _devices() -> Finding:
    try:
        found = devices.find()
    except ImportError as error:
        return Finding("devices", f"jax cannot be imported: {error}", extras.install("cpu"))
    except SettingError as error:
        return Finding("devices", f"none usable: {error.where}: {error.found}", error.fix)
    value = f"{found}, {os.cpu_count()} CPU cores"
    if found.warnings:
        return Finding("devices", f"{value}; {' '.join(found.warnings)}", devices.install(), optional=True)
    return Finding("devices", value)


def _vocabulary() -> Finding:
    from fsa_jax.tokenizers import t5

    path = t5.configured_vocabulary()
    if path is None:
        return Finding(
            "vocabulary",
            f"not here; it will be downloaded from {t5.HUB_REPOSITORY} at the first use",
            f"set {t5.VOCABULARY_VARIABLE} to a SentencePiece model to work offline",
            optional=True,
        )
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    which = "T5's" if digest == t5.T5_SHA256 else "not T5's own, sha256 " + digest[:12]
    return Finding("vocabulary", f"{path} ({which})")


def _data() -> Iterator[Finding]:
    root = data_dir()
    source = (
        f"${DATA_DIR_VARIABLE}"
        if os.environ.get(DATA_DIR_VARIABLE)
        else f"the default, because ${DATA_DIR_VARIABLE} is not set"
    )
    fix = f"set {DATA_DIR_VARIABLE} to a folder with the layout of docs/data.md, or create one: fsa demo"
    if not root.is_dir():
        yield Finding("data", f"{root.resolve()} does not exist ({source})", fix, optional=True)
        return
    yield Finding("data", f"{root.resolve()} ({source})")
    contents = {
        "teacher text": sorted(root.glob("teacher/*.jsonl")),
        "corpora": sorted({path.parent for path in root.glob("corpus/sentiment_corpus/*/*/dataset_info.json")}),
        "FSA datasets": sorted(root.glob("fsa/*/*/train.json")),
    }
    can_distil = bool(contents["teacher text"] or contents["corpora"])
    for name, files in contents.items():
        if files:
            yield Finding(f"  {name}", ", ".join(str(file.relative_to(root)) for file in files))
        else:
            needed = name == "FSA datasets" or not can_distil
            yield Finding(f"  {name}", "none", fix if needed else None, optional=True)


def findings() -> Iterator[Finding]:
    """All lines of the report, in order."""
    yield from _versions()
    yield _engine()
    yield _devices()
    yield from _data()
    yield _vocabulary()


def _check_checkpoints(path: Path) -> int:
    """Prints a line for the checkpoint at ``path``, or for each checkpoint in it; returns how many are damaged."""
    damaged = 0
    for checkpoint in checkpoint_files.find_checkpoints(path):
        verdict = checkpoint_files.verify(checkpoint)
        print(f"{checkpoint}: {verdict}", flush=True)
        damaged += bool(verdict.problems)
    return damaged


def command(checkpoint: Path | None = None) -> int:
    """Prints versions, devices, the engine, data and vocabulary, and the commands that fix what is missing.

    Exits with status 1 if something that training needs is missing, or if a checkpoint is damaged.

    Args:
      checkpoint: checkpoint, or directory of checkpoints. If given, the command compares the files of the checkpoints
        with their checksums and prints the result (whole, damaged, or not verified), instead of the report.

    Example:
      fsa doctor
      fsa doctor --checkpoint runs/finetune_base
    """
    if checkpoint is not None:
        return 1 if _check_checkpoints(runs.named(checkpoint)) else 0
    broken = 0
    for finding in findings():
        mark = "ok  " if finding.fix is None else "-   " if finding.optional else "MISS"
        print(f"{mark} {finding.name:<20} {finding.value}")
        if finding.fix is not None:
            print(f"     {'':<20} -> {finding.fix}")
            broken += not finding.optional
    if broken:
        print(f"\n{broken} missing")
    return 1 if broken else 0
