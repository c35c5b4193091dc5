"""A whole check: two passes over the generations, with constant memory.

The first pass checks every generation alone, in several processes if asked. It stores its lean and the hashes of its
key and text in a temporary database. The second pass adds what needs other rows (the lean of the other form), decides
the verdict and writes it.
"""

from __future__ import annotations

import multiprocessing
import signal
import sqlite3
import tempfile
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import closing
from itertools import chain
from pathlib import Path

from fsa_jax.checking.assess import CheckedGeneration, CheckSettings, assess, with_partner
from fsa_jax.checking.checked_files import PartWriter, as_row
from fsa_jax.checking.statistics import Statistics
from fsa_jax.common.hashing import hash64
from fsa_jax.common.records import Generation, Review
from fsa_jax.reviews.distinct_sample import priority

CHUNK = 500
"""Number of generations that a process checks at a time; if there are fewer in total, no process is started."""
_CHUNK_CHARACTERS = 20_000_000
"""Limit on the characters of reviews and texts in a chunk, because a chunk is kept in memory. Ordinary chunks have a
twentieth of it."""

_OTHER = {"analysis": "rewriting", "rewriting": "analysis"}


def check(
    pairs: Iterable[tuple[Review, Generation]],
    settings: CheckSettings,
    output: Path,
    progress: Callable[[str, int], None] = lambda phase, rows: None,
    workers: int = 1,
) -> Statistics:
    """Checks generations and writes ``output/kept`` and ``output/dropped``.

    Args:
      pairs: reviews with their generations, in any order.
      settings: thresholds of the check.
      output: new or empty folder.
      progress: called every 500 rows with the phase (``check`` or ``write``) and the number of rows done.
      workers: number of processes that check; the output does not depend on it.
    """
    settings.checked()
    statistics = Statistics()
    output.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory(dir=output, prefix=".check") as scratch,
        closing(_Notes(Path(scratch) / "notes.sqlite")) as notes,
    ):
        assessed = Path(scratch) / "assessed.jsonl"
        with assessed.open("w", encoding="utf-8") as file:
            for number, checked in enumerate(_assessed(pairs, settings, workers), start=1):
                checked = notes.without_duplicates(checked)
                notes.note(checked)
                file.write(checked.model_dump_json() + "\n")
                if number % 500 == 0:
                    progress("check", number)
        with PartWriter(output / "kept") as kept, PartWriter(output / "dropped") as dropped:
            for number, checked in enumerate(_read(assessed), start=1):
                checked = with_partner(checked, notes.partner_lean(checked), settings)
                statistics.add(checked)
                (dropped if checked.verdict == "drop" else kept).write(as_row(checked))
                if number % 500 == 0:
                    progress("write", number)
    return statistics


def _assessed(
    pairs: Iterable[tuple[Review, Generation]], settings: CheckSettings, workers: int
) -> Iterator[CheckedGeneration]:
    """Checks every generation alone; yields the results in the order of ``pairs``."""
    chunks = _chunks(pairs)
    first, second = next(chunks, []), next(chunks, [])
    chunks = chain([first, second], chunks)
    if workers == 1 or (len(first) < CHUNK and not second):
        for chunk in chunks:
            yield from _assess_chunk(chunk, settings)
        return
    # The queue is bounded, because the pool's own map() would read all pairs into memory. Processes are spawned, not
    # forked, because this process has threads.
    waiting: deque[Future[list[CheckedGeneration]]] = deque()
    # Ctrl-C reaches every process of the terminal. Only this one handles it; the workers end when it ends.
    with ProcessPoolExecutor(
        workers, multiprocessing.get_context("spawn"), signal.signal, (signal.SIGINT, signal.SIG_IGN)
    ) as pool:
        for chunk in chunks:
            waiting.append(pool.submit(_assess_chunk, chunk, settings))
            if len(waiting) > 2 * workers:
                yield from waiting.popleft().result()
        for done in waiting:
            yield from done.result()


def _chunks(pairs: Iterable[tuple[Review, Generation]]) -> Iterator[list[tuple[Review, Generation]]]:
    chunk, characters = [], 0
    for review, generation in pairs:
        chunk.append((review, generation))
        characters += len(review.text) + len(generation.text or "")
        if len(chunk) == CHUNK or characters >= _CHUNK_CHARACTERS:
            yield chunk
            chunk, characters = [], 0
    if chunk:
        yield chunk


def _assess_chunk(chunk: list[tuple[Review, Generation]], settings: CheckSettings) -> list[CheckedGeneration]:
    return [assess(review, generation, settings) for review, generation in chunk]


def _read(path: Path) -> Iterator[CheckedGeneration]:
    with path.open(encoding="utf-8") as file:
        for line in file:
            yield CheckedGeneration.model_validate_json(line)


class _Notes:
    """What the second pass needs to know about other rows, in a temporary file."""

    def __init__(self, path: Path):
        self._database = sqlite3.connect(path, isolation_level=None)
        self._database.execute("PRAGMA synchronous = OFF")
        self._database.execute("PRAGMA journal_mode = OFF")
        self._database.execute("CREATE TABLE seen (hash INTEGER PRIMARY KEY) WITHOUT ROWID")
        self._database.execute("CREATE TABLE lean (key INTEGER PRIMARY KEY, total REAL, rows INTEGER) WITHOUT ROWID")

    def close(self) -> None:
        self._database.close()

    def _first_time(self, hashed: int) -> bool:
        # SQLite's integers are signed.
        return self._database.execute("INSERT OR IGNORE INTO seen VALUES (?)", (hashed - 2**63,)).rowcount == 1

    def without_duplicates(self, checked: CheckedGeneration) -> CheckedGeneration:
        """Drops a generation that occurred before, and a text that its teacher also gave for another review."""
        generation = checked.generation
        if checked.verdict == "drop":
            return checked
        key = generation.model_dump_json(exclude={"text", "failure", "input_tokens", "output_tokens"})
        reason = None
        # The authors' rows have no seed, so two answers are distinguished by their text.
        if not self._first_time(hash64(f"key {key} {generation.text if generation.prompt_hash == 'released' else ''}")):
            reason = "the same generation twice"
        elif not self._first_time(
            priority(f"{generation.teacher} {generation.understanding} {checked.response}", seed=1)
        ):
            reason = "the same text twice"
        if reason is None:
            return checked
        return checked.model_copy(update={"verdict": "drop", "reason": reason, "response": generation.text or ""})

    def note(self, checked: CheckedGeneration) -> None:
        if checked.verdict != "drop" and checked.lean is not None:
            self._database.execute(
                "INSERT INTO lean VALUES (?, ?, 1) ON CONFLICT (key) DO UPDATE SET total = total + ?, rows = rows + 1",
                (self._key(checked, checked.generation.understanding), checked.lean, checked.lean),
            )

    def partner_lean(self, checked: CheckedGeneration) -> float | None:
        """Mean lean of the kept texts of the other form, by the same teacher about the same review."""
        key = self._key(checked, _OTHER[checked.generation.understanding])
        row = self._database.execute("SELECT total / rows FROM lean WHERE key = ?", (key,)).fetchone()
        return row[0] if row else None

    @staticmethod
    def _key(checked: CheckedGeneration, understanding: str) -> int:
        return hash64(f"{checked.review.id}\n{checked.generation.teacher}\n{understanding}") - 2**63
