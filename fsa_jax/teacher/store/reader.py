"""Reads a store, even while jobs write it: every generation once, with the last attempt of a retried one."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path

import numpy as np

from fsa_base.errors import MissingDataError
from fsa_jax.common.records import Generation
from fsa_jax.teacher.store.key_set import KEYS, KeySet, as_keys
from fsa_jax.teacher.store.parts import Part, StoredGeneration
from fsa_jax.teacher.store.shard_files import SealedJournal, contents, shard_folders

_Place = tuple[int, int]


class StoreReader:
    """The generations of all shards of a store, at this moment.

    A damaged part raises StoreError when it is read; skipped lines of a journal are only printed.

    Args:
      root: folder of the store.

    Raises:
      MissingDataError: there is no store.
      StoreError: a file of the store is missing.
    """

    def __init__(self, root: Path) -> None:
        folders = shard_folders(root)
        if not folders:
            raise MissingDataError(
                root, expected="a store of generations", found="no shard in it", fix="write one with fsa teach"
            )
        self._shards: dict[str, list[Part | SealedJournal]] = {}
        for folder in folders:
            found = contents(folder)
            found.say_what_is_unsure()
            self._shards[folder.name] = [*found.parts, *found.journals]
        self._sources = [source for shard in self._shards.values() for source in shard]

    @property
    def shards(self) -> list[str]:
        """Names of the folders of the shards, in the order of ``attempts_by_shard``."""
        return list(self._shards)

    def attempts_by_shard(self) -> Iterator[Iterator[StoredGeneration]]:
        """Every row that was ever stored, without its text, shard by shard: all the requests that were paid for."""
        for shard in self._shards.values():
            yield (row for source in shard for row in source.generations(texts=False))

    def __iter__(self) -> Iterator[StoredGeneration]:
        """One row for each key, failures included, in the order of the shards. Needs 16 bytes of memory per row."""
        best = self._repeated()
        for number, source in enumerate(self._sources):
            for row, generation in enumerate(source.generations()):
                place = best.get(generation.key) if best else None
                if place is None or place == (number, row):
                    yield generation

    def find(self, keys: Collection[bytes]) -> dict[bytes, StoredGeneration]:
        """The rows of some keys, one for each; a part without any of them is not read. Keys that are not there are
        left out."""
        wanted = as_keys(list(keys))
        found: dict[bytes, StoredGeneration] = {}
        for source in self._sources:
            if not np.isin(source.index().keys, wanted).any():
                continue
            for row in source.generations():
                best = found.get(row.key)
                if row.key in keys and (best is None or _rank(row) >= _rank(best)):
                    found[row.key] = row
        return found

    def _repeated(self) -> dict[bytes, _Place]:
        """The place of the row to use, for each key that has several rows.

        A key has several rows if it was retried, or if it was sent again and then a part that had been set aside was
        restored. An answer is preferred to a failure, whichever came later.
        """
        seen, repeated = KeySet(), KeySet()
        for source in self._sources:
            keys = source.index().keys
            repeated.add_new(keys[~seen.add_new(keys)])
        if not len(repeated):
            return {}
        best: dict[bytes, tuple[tuple[bool, int], _Place]] = {}
        for number, source in enumerate(self._sources):
            index = source.index()
            for row in np.flatnonzero(repeated.contains(index.keys)).tolist():
                key = bytes(index.keys[row]).ljust(KEYS.itemsize, b"\0")
                rank = not index.failed[row], int(index.attempts[row])
                if key not in best or rank >= best[key][0]:
                    best[key] = rank, (number, row)
        return {key: place for key, (_, place) in best.items()}


def _rank(row: StoredGeneration) -> tuple[bool, int]:
    return row.failure is None, row.attempt


def generations(root: Path, *, keep_cut_off: bool = False) -> Iterator[Generation]:
    """All generations of a store, each once. Failures have no text but a reason.

    Args:
      root: folder of the store.
      keep_cut_off: whether answers that were cut off at max_tokens are returned with their text, not as failures.

    Raises:
      MissingDataError: there is no store.
    """
    for row in StoreReader(root):
        yield row.generation(keep_cut_off=keep_cut_off)
