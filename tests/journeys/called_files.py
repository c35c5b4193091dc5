"""Records the files of this project whose functions are called while something runs.

It records calls of Python functions of PACKAGES, in this thread and in threads that start during the recording. It
does not record calls during the import of a module. Methods that ``dataclasses`` or pydantic generate are not
recorded, since they have no file, nor are calls in threads that TensorFlow starts (``tf.py_function``,
``Dataset.from_generator``), which Python 3.11 cannot profile.

With a marker, a function counts only if it holds the marker when it is called or when it returns: in an argument, in
a local variable or in an attribute of one of them. If the marker is a word of a review, this shows which files handle
the review.
"""

from __future__ import annotations

import fnmatch
import gc
import importlib.util
import sys
import threading
from collections import deque
from collections.abc import Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from types import FrameType, ModuleType
from typing import Any

PACKAGES = {"fsa_jax": "fsa_jax", "t5x": "runtime/t5x", "fsa_base": "base/fsa_base"}
"""The packages of this project and their directories. Packages that are not installed are left out."""

_AUTOGRAPH = "__autograph_generated_file"
"""TensorFlow's AutoGraph runs a translated copy of a function, in a generated file but with the same globals."""

_ELEMENTS = 100


class CalledFiles:
    """Records calls from :meth:`start` to :meth:`stop`.

    Args:
      marker: text that a function must hold to count; see above. If None, all functions count.
      left_out: patterns of files that do not count; calls from inside these files do not count either.

    Attributes:
      left_out: the called files that do not count.
      functions: names of the called functions by file (relative to the repository), in the order of the first calls.
    """

    def __init__(self, marker: str | None = None, left_out: Sequence[str] = ()) -> None:
        self._marker = marker
        self._left_out = left_out
        self.left_out: dict[str, None] = {}
        self.functions: dict[str, set[str]] = {}
        self._folders = dict(_package_folders())
        self._paths: dict[str, str | None] = {}
        self._running = False

    def start(self) -> None:
        """Begins to record the calls of this thread and of all threads that start from now on.

        No garbage is collected until :meth:`stop`: a suspended generator that is collected counts as called, even if
        an earlier test left it.
        """
        _forget_results()
        gc.collect()
        gc.disable()
        self._running = True
        threading.setprofile(self._note)
        sys.setprofile(self._note)

    def stop(self) -> None:
        """Ends the recording in all threads."""
        self._running = False
        sys.setprofile(None)
        threading.setprofile(None)  # pyright: ignore[reportArgumentType]
        gc.enable()

    def _note(self, frame: FrameType, event: str, _: Any) -> None:
        if event not in ("call", "return") or not self._running or (event == "return" and self._marker is None):
            return
        name = frame.f_code.co_filename
        if _AUTOGRAPH in name:
            name = frame.f_globals.get("__file__", name)
        if name not in self._paths:
            self._paths[name] = self._path_in_repository(name)
        path = self._paths[name]
        if path is None or frame.f_code.co_qualname in self.functions.get(path, ()) or _is_importing(frame):
            return
        if self._is_inside_left_out(frame):
            self.left_out[path] = None
        elif self._marker is None or _holds(frame.f_locals, self._marker):
            self.functions.setdefault(path, set()).add(frame.f_code.co_qualname)

    def _is_inside_left_out(self, frame: FrameType | None) -> bool:
        while frame is not None and self._left_out:
            path = self._paths.get(frame.f_code.co_filename)
            if path is not None and matches(path, self._left_out):
                return True
            frame = frame.f_back
        return False

    def _path_in_repository(self, name: str) -> str | None:
        file = Path(name)
        if file.suffix != ".py":  # Jinja's templates are compiled under their own names.
            return None
        for folder, place in self._folders.items():
            if folder in file.parents:
                return f"{place}/{file.relative_to(folder).as_posix()}"
        return None


def matches(file: str, patterns: Sequence[str]) -> bool:
    """Whether a path matches one of the fnmatch patterns."""
    return any(fnmatch.fnmatchcase(file, pattern) for pattern in patterns)


def _holds(value: Any, marker: str, depth: int = 5) -> bool:
    """Whether a value is or contains a text with ``marker``; looks at the first _ELEMENTS of a long container."""
    if isinstance(value, str):
        return marker in value
    if isinstance(value, bytes):
        return marker.encode() in value
    if depth == 0 or value is None or isinstance(value, int | float | type | ModuleType):
        return False
    if hasattr(value, "to_pylist"):  # columns, batches and tables of pyarrow
        return _holds(value.slice(0, _ELEMENTS).to_pylist(), marker, depth)
    if isinstance(value, Mapping):
        parts = [*value.keys(), *value.values()] if len(value) <= _ELEMENTS else []
    elif isinstance(value, Sequence | Set | deque):
        parts = list(islice(value, _ELEMENTS))
    else:
        slots = getattr(type(value), "__slots__", ())
        names = (slots,) if isinstance(slots, str) else slots
        parts = [*getattr(value, "__dict__", {}).values(), *(getattr(value, name, None) for name in names)]
    return any(_holds(part, marker, depth - 1) for part in parts)


@contextmanager
def recording(marker: str | None = None, left_out: Sequence[str] = ()) -> Iterator[CalledFiles]:
    """Records the calls in the ``with`` block, until its end or until it calls ``stop``."""
    called = CalledFiles(marker, left_out)
    called.start()
    try:
        yield called
    finally:
        called.stop()


def _is_importing(frame: FrameType | None) -> bool:
    while frame is not None and frame.f_code.co_filename != "<frozen importlib._bootstrap>":
        frame = frame.f_back
    return frame is not None


def _package_folders() -> Iterator[tuple[Path, str]]:
    for package, place in PACKAGES.items():
        spec = importlib.util.find_spec(package)
        for folder in (spec and spec.submodule_search_locations) or ():
            yield Path(folder), place


def _forget_results() -> None:
    """Clears the caches of this project and of JAX: a cached result would hide the files that compute it."""
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] in PACKAGES:
            for value in list(vars(module).values()):
                if hasattr(value, "cache_clear"):
                    value.cache_clear()
    if "jax" in sys.modules:
        sys.modules["jax"].clear_caches()
