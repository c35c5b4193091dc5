"""The writer of a shard. Only one job may write a shard at a time."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO

import numpy as np

from fsa_base import disk
from fsa_jax.teacher.store.errors import StoreError, storing
from fsa_jax.teacher.store.key_set import KEYS, KeySet
from fsa_jax.teacher.store.part_list import change_list
from fsa_jax.teacher.store.parts import Part, StoredGeneration, merge
from fsa_jax.teacher.store.shard_files import Journal, SealedJournal, Shard, contents, fold, journal_path, shard_folders

ROWS_PER_PART = 20_000
_LOCK = "lock"


class ShardWriter:
    """Opens a shard for writing, recovers the rows of a killed job, and knows which requests are done.

    Use it as a context manager. ``done`` has the keys of requests that are not sent again. ``failed_attempts`` has, by
    key, the number of attempts of the failures to retry (empty without ``retry_failed``). ``torn`` counts the
    incomplete lines that a crash left; their requests are sent again.

    Args:
      root: folder of the store; created if missing.
      shard: shard of the job. Other shards of the same count are not read, because they are about other reviews.
      retry_failed: whether failures count as missing.
      rows_per_part: number of rows at which a journal becomes a part.

    Raises:
      StoreError: another job writes this shard, shards of another count are being written, or stored data are damaged
        or missing.
    """

    def __init__(
        self, root: Path, shard: Shard | None = None, *, retry_failed: bool = False, rows_per_part: int = ROWS_PER_PART
    ) -> None:
        self.root = root
        self.shard = shard or Shard()
        self.folder = root / self.shard.folder
        self._rows_per_part = rows_per_part
        with storing(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
        self._lock = self._take_lock()
        try:
            self._tidy()
            self.done, self.failed_attempts = self._what_is_done(retry_failed)
            self._journal = self._open_journal()
            self.torn = self._journal.torn
        except BaseException:
            self._lock.close()
            raise

    def __enter__(self) -> ShardWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _take_lock(self) -> IO[str]:
        for folder in shard_folders(self.root):
            if folder != self.folder and not folder.name.endswith(f"-of-{self.shard.count:05d}"):
                self._refuse_if_locked(folder)
        path = self.folder / _LOCK
        with storing(path):
            file = path.open("a+")
        try:
            disk.lock(file.fileno(), 0)
        except BlockingIOError as error:
            owner = _owner(path)
            file.close()
            raise StoreError(
                self.folder,
                expected="a shard that no other job writes",
                found=f"{owner} is writing it",
                fix="wait for that job, or give each job its own shard: --shard i/n on every machine",
            ) from error
        except OSError as error:
            file.close()
            raise _without_locks(path, error) from error
        with suppress(OSError):  # the owner's name is only information; on a full disk it may be missing
            file.truncate(0)
            file.write(f"process {os.getpid()} on {socket.gethostname()}")
            file.flush()
        return file

    def _refuse_if_locked(self, folder: Path) -> None:
        path = folder / _LOCK
        if not path.exists():
            return
        with path.open("a") as file:
            try:
                disk.lock(file.fileno(), 0)
            except BlockingIOError as error:
                raise StoreError(
                    self.root,
                    expected=f"no job with another number of shards than {self.shard.count}",
                    found=f"{_owner(path)} is writing {folder.name}",
                    fix="wait for that job, or use the same n in --shard i/n for all jobs of a store",
                ) from error
            except OSError as error:
                raise _without_locks(path, error) from error

    def _tidy(self) -> None:
        """Deletes obsolete files, converts all journals but the last into parts, and merges small consecutive parts."""
        found = contents(self.folder)
        found.say_what_is_unsure()
        if found.leftovers:
            # The obsolete files are deleted only if the parts that replace them are undamaged.
            for part in found.parts:
                part.verify()
        with storing(self.folder):
            for path in found.leftovers:
                path.unlink(missing_ok=True)
        for journal in found.journals[:-1]:
            fold(self.folder, journal)
        self._merge_small()

    def _merge_small(self) -> None:
        group: list[Part] = []
        rows = 0
        for part in [*contents(self.folder).parts, None]:
            size = part.rows if part else 0
            # Parts are not merged across a gap: the gap may be a part that was set aside. Once restored, that part
            # would look obsolete.
            follows = part and (not group or group[-1].last + 1 == part.first)
            if part and follows and rows + size <= self._rows_per_part:
                group.append(part)
                rows += size
                continue
            if len(group) > 1:
                merge(self.folder, group)
            group, rows = ([part], size) if part else ([], 0)

    def _what_is_done(self, retry_failed: bool) -> tuple[KeySet, dict[bytes, int]]:
        succeeded, failed, attempts = [np.empty(0, KEYS)], [np.empty(0, KEYS)], [np.empty(0, np.int32)]
        for folder in self._folders_of_these_reviews():
            found = contents(folder)
            for source in (*found.parts, *found.journals):
                index = source.index()
                succeeded.append(index.keys[~index.failed])
                failed.append(index.keys[index.failed])
                attempts.append(index.attempts[index.failed])
        done = KeySet(np.concatenate(succeeded))
        failed_keys, failed_attempts = np.concatenate(failed), np.concatenate(attempts)
        if not retry_failed:
            done.add_new(failed_keys)
            return done, {}
        still = ~done.contains(failed_keys)
        retries: dict[bytes, int] = {}
        for key, attempt in zip(failed_keys[still].tolist(), failed_attempts[still].tolist(), strict=True):
            key = key.ljust(KEYS.itemsize, b"\0")
            retries[key] = max(retries.get(key, 0), attempt + 1)
        return done, retries

    def _folders_of_these_reviews(self) -> list[Path]:
        others = (folder for folder in shard_folders(self.root) if folder != self.folder)
        same_count = f"-of-{self.shard.count:05d}"
        return [self.folder, *(folder for folder in others if not folder.name.endswith(same_count))]

    def _open_journal(self) -> Journal:
        found = contents(self.folder)
        number = found.journals[-1].number if found.journals else found.next_number
        journal = Journal(journal_path(self.folder, number))
        try:
            change_list(self.folder, journal=journal.path.name)
        except BaseException:
            journal.close()
            raise
        return journal

    def stored(self) -> Iterator[StoredGeneration]:
        """All rows of this shard, without their texts, except those in the journal that is being written."""
        found = contents(self.folder)
        for source in (*found.parts, *found.journals):
            yield from source.generations(texts=False)

    def append(self, rows: Sequence[StoredGeneration]) -> None:
        """Stores rows. Once it returns, they survive a kill; after ``sync`` they also survive a power cut.

        Raises:
          StoreError: the rows cannot be written. Everything stored before is intact.
        """
        self._journal.append(rows)
        if self._journal.rows >= self._rows_per_part:
            self._seal()
            self._journal = self._open_journal()

    def sync(self) -> None:
        """Makes everything stored survive a power cut; may run in another thread at the same time as ``append``."""
        self._journal.sync()

    def _seal(self) -> None:
        self._journal.close()
        number = int(self._journal.path.stem.rpartition("-")[2])
        fold(self.folder, SealedJournal(self._journal.path, number), say=False)

    def close(self) -> None:
        """Converts the journal into a part and releases the lock. On a full disk the journal stays, so nothing is
        lost."""
        try:
            self._seal()
        finally:
            self._lock.close()


def _without_locks(lock: Path, error: OSError) -> StoreError:
    # Without locks two jobs could write one shard, and would send and pay for everything twice.
    return StoreError(
        lock,
        expected="a file system with locks, which prevent that two jobs write a shard",
        found=str(error),
        fix="put the store on a local disk, or mount its file system with locks",
    )


def _owner(lock: Path) -> str:
    try:
        return lock.read_text(errors="replace").strip() or "another job"
    except OSError:
        return "another job"
