"""Labels of one's own by their path: prepared at first use in a cache folder, and found by a word as others are."""

from __future__ import annotations

import functools
import os
import time
from pathlib import Path

from fsa_base.errors import SettingError, require_choice
from fsa_jax.common.paths import shown
from fsa_jax.data.benchmark_files import KINDS, label_sets, task_of
from fsa_jax.labels.formats import DOCS
from fsa_jax.labels.prepare import PreparedLabels, content_key, prepare

LABELS_VARIABLE = "FSA_LABELS"
"""Environment variable with the path of labels for the tasks ``fsa_labels`` and ``fsa_labels_FORM``."""
TASK = "fsa_labels"
_LONGEST_WAIT = 60.0


def cache_dir() -> Path:
    """The folder of prepared labels: ``fsa_jax/labels`` in ``$XDG_CACHE_HOME``, by default ``~/.cache``."""
    base = os.environ.get("XDG_CACHE_HOME")
    return Path(base) if base else Path.home() / ".cache"


def prepared(source: Path, *, codec: str | None = None, seed: int = 0) -> PreparedLabels:
    """Prepares labels in the cache folder, in a folder of their own for each content, or finds them there.

    Several processes may ask at the same time: one of them prepares, the others wait up to a minute.

    Raises:
      FsaError: see :func:`fsa_jax.labels.prepare.prepare`.
    """
    out = cache_dir() / "fsa_jax" / "labels" / content_key(source, seed, codec, False)
    end = time.monotonic() + _LONGEST_WAIT
    while True:
        try:
            # Whatever is there but is not whole was damaged, and nobody else writes into this folder.
            return prepare(source, out, seed=seed, codec=codec, overwrite=True)
        except SettingError as error:
            if "another process" not in error.found or time.monotonic() > end:
                raise
        time.sleep(0.1)


@functools.lru_cache(maxsize=8)
def of_environment(value: str, codec: str | None) -> PreparedLabels:
    """The labels of ``FSA_LABELS``. They are read once per process, so that a run never sees two versions of a file.

    Args:
      value: the value of the variable.
      codec: the codec, or None for the one of the labels.

    Raises:
      SettingError: the variable is empty.
      FsaError: the labels cannot be used.
    """
    if not value:
        raise SettingError(
            LABELS_VARIABLE, expected=f"the path of labels ({DOCS})", found="none", fix=f"export {LABELS_VARIABLE}=PATH"
        )
    found = _in_own_layout(Path(value))
    if found is not None:
        root, dataset = found
        if codec is not None and dataset.split("/")[0] != codec:
            raise SettingError(
                LABELS_VARIABLE,
                expected=f"labels prepared as {codec}, for the task {TASK}_{codec}",
                found=dataset,
                fix=f"use the task {TASK}_{dataset.split('/')[0]}, or the files from which they were prepared",
            )
        return PreparedLabels(root, dataset, {}, reused=True)
    return prepared(Path(value), codec=codec)


def resolve_task(word: str, data_root: Path, *, codec: str | None = None, seed: int = 0) -> tuple[Path, str]:
    """The dataset that a word of ``--task`` means.

    Args:
      word: a dataset of the data directory (``rest14``, ``atsa/rest14`` or ``fsa_atsa_rest14``); or the path of a file
        or folder of labels in any format, which are prepared in the cache folder; or a folder in this project's layout,
        such as that of ``fsa labels --out``. A dataset of the data directory comes before a path of the same name;
        ``./NAME`` is always a path.
      data_root: the data directory.
      codec: the codec for labels that are prepared; None for the one of the labels.
      seed: random seed of the split of labels that have none.

    Returns:
      The data directory for ``FSA_DATA_DIR``, and the name of the dataset in it, such as ``atsa/rest14``.

    Raises:
      SettingError: the word means several datasets, or nothing.
      DataError: the labels cannot be used.
    """
    known = label_sets(data_root)
    if name := labels_of(word, known):
        return data_root, name
    path = Path(word)
    if not path.exists():
        words = [name.split("/")[1] for name in known]
        if words and "/" not in word:
            require_choice("--task", word, words, "{setting} {choice}, or the path of a file or folder of labels")
        raise SettingError(
            "--task",
            expected=f"labels of {shown(data_root)} ({', '.join(words) or 'there are none'}), or a path of labels",
            found=word,
            fix=f"correct the path; formats of labels: {DOCS}",
        )
    found = _in_own_layout(path)
    if found is not None:
        return found
    labels = prepared(path, codec=codec, seed=seed)
    return labels.root, labels.dataset


def labels_of(task: str, known: list[str] | tuple[str, ...]) -> str | None:
    """The FSA dataset that a word means: ``rest14``, ``atsa/rest14`` or ``fsa_atsa_rest14``; None if it is none.

    Raises:
      SettingError: the word means several datasets.
    """
    found = [name for name in known if task in (name, name.split("/")[1], task_of(name), task_of(name, chat=True))]
    if len(found) > 1:
        raise SettingError("--task", expected=" or ".join(found), found=task, fix=f"--task {found[0]}")
    return found[0] if found else None


def _in_own_layout(path: Path) -> tuple[Path, str] | None:
    """Data directory and dataset, if the path is ``ROOT/fsa/CODEC/NAME``, or a ROOT with one dataset."""
    path = Path(os.path.abspath(path))
    if path.parent.name in KINDS and path.parent.parent.name == "fsa":
        root, name = path.parents[2], "/".join(path.parts[-2:])
        if name in label_sets(root):
            return root, name
    found = label_sets(path) if path.is_dir() else []
    if len(found) > 1:
        raise SettingError(
            "--task",
            expected="one dataset",
            found=f"{len(found)} in {shown(path)}: {', '.join(found[:6])}",
            fix=f"{shown(path / 'fsa' / found[0])}",
        )
    return (path, found[0]) if found else None
