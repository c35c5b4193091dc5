"""A whole check, from its input to the checked files: two passes over the generations, with constant memory.

The input is a generation store with its reviews, or a file in the layout of the papers' authors. The first pass checks
every generation alone, in several processes if asked. It stores its lean and the hashes of its key and text in a
temporary database. The second pass adds what needs other rows (the lean of the other form), decides the verdict and
writes it.
"""

from __future__ import annotations

import multiprocessing
import re
import signal
import sqlite3
import tempfile
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import closing
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

from fsa_base.errors import DataError
from fsa_jax.checking.assess import CheckedGeneration, CheckSettings, assess, with_partner
from fsa_jax.checking.checked_files import PartWriter, as_row
from fsa_jax.checking.statistics import Statistics
from fsa_jax.common.records import Generation, Review
from fsa_jax.reviews.dump_rows import expand, raw_rows
from fsa_jax.reviews.raw_row import BadRow
from fsa_jax.reviews.row_to_review import (
    Fields,
    clean_text,
    identifier,
    parse_review,
    probe,
    readable_text,
    unclear_scale,
)
from fsa_jax.reviews.stars import Ratings
from fsa_jax.teacher.store.parts import StoredGeneration
from fsa_jax.text.analysis import is_analysis
from fsa_jax.text.words import hash64, priority

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


def is_store(path: Path) -> bool:
    """Whether a path is a store of ``fsa teach``."""
    return path.is_dir() and any(path.glob("shard-*-of-*"))


_RESPONSE = re.compile(r"(?P<teacher>\w+)_response")
_FIX_SCALE = "map the stars of the file to 1 to 5"
RELEASED_PROMPT = "released"
"""Used as the prompt hash of the authors' teacher text, because the wording of their prompts is not public."""


def released(path: Path, skipped: Counter[str]) -> Iterator[tuple[Review, Generation]]:
    """Reads rows in the authors' layout, ``ID Text Overall TEACHER_response``; a row may have text of several teachers.

    Analysis and rewriting use the same column name; the text itself shows which form it is.

    Args:
      path: file, or folder of files.
      skipped: counter by reason of rows without a review or without teacher text.

    Raises:
      DataError: no row has a ``…_response`` column, or the scale of a file's stars cannot be decided.
    """
    responses = 0
    # The teacher has read the text as it is in the file.
    for row, review in _rows_with_reviews(path, skipped, ids_of_teach=False):
        found = [(match["teacher"], row[key]) for key in row if (match := _RESPONSE.fullmatch(key))]
        if not found:
            skipped["no …_response column"] += 1
        for teacher, text in found:
            responses += 1
            text = text if isinstance(text, str) else ""
            yield (
                review,
                Generation(
                    review_id=review.id,
                    understanding="analysis" if is_analysis(text) else "rewriting",
                    prompt_hash=RELEASED_PROMPT,
                    teacher=teacher,
                    text=text,
                ),
            )
    if not responses:
        raise DataError(
            path,
            expected="rows with ID, Text, Overall and TEACHER_response",
            found=", ".join(f"{count} x {reason}" for reason, count in skipped.most_common()) or "no row",
            fix="name a generation store with --reviews REVIEWS.parquet, or a file in the released layout",
        )


def reviews_of_dump(path: Path, unused: Counter[str]) -> Iterator[Review]:
    """Reads the reviews of any file or folder that ``fsa teach`` reads, with the ids that it asked about.

    Args:
      path: file, or folder of files.
      unused: counter by reason of rows that are no review.

    Raises:
      DataError: a file cannot be read, or the scale of its stars cannot be decided.
    """
    return (review for _, review in _rows_with_reviews(path, unused, ids_of_teach=True))


def _rows_with_reviews(
    path: Path, skipped: Counter[str], *, ids_of_teach: bool
) -> Iterator[tuple[Mapping[str, Any], Review]]:
    for file in expand(path):
        probed, ratings = probe(partial(raw_rows, file), Fields({})), Ratings()
        if probed.fields.scale is None:
            raise unclear_scale(str(file), probed.ratings, None, _FIX_SCALE)
        for raw in raw_rows(file):
            row = raw if isinstance(raw, BadRow) else raw.parse()
            if isinstance(row, BadRow):
                skipped[row.reason] += row.rows
                continue
            ratings.add(probed.fields.rating(row))
            # from_store converts HTML if the teacher has read the converted text. Here only those rows need it whose id
            # is made from their text.
            convert = ids_of_teach and identifier(probed.fields.get(row, "id")) is None
            parsed = parse_review(row, probed.fields, convert_html=convert)
            if isinstance(parsed, BadRow):
                skipped[parsed.reason] += parsed.rows
                continue
            yield row, parsed.review
        if ratings.scale() != probed.fields.scale:
            raise unclear_scale(str(file), ratings, probed.fields.scale, _FIX_SCALE)


class ReviewIndex:
    """An index of reviews by id in a file, so that a million reviews need no memory. Of equal ids, the first is used.

    Args:
      path: path of a new temporary file.
      reviews: all reviews.
      unused: counter of reviews whose id was used before by a different review; exact copies are not counted.
    """

    def __init__(self, path: Path, reviews: Iterable[Review], unused: Counter[str]):
        self._database = sqlite3.connect(path)
        # The file is temporary, so it need not survive a crash.
        self._database.execute("PRAGMA synchronous = OFF")
        self._database.execute("PRAGMA journal_mode = OFF")
        self._database.execute("CREATE TABLE review (id TEXT PRIMARY KEY, json TEXT) WITHOUT ROWID")
        for review in reviews:
            row = review.id, review.model_dump_json()
            new = self._database.execute("INSERT OR IGNORE INTO review VALUES (?, ?)", row).rowcount
            if not new and self.get(review.id) != review:
                unused["another review with an id that was there before"] += 1
        self._database.commit()

    def get(self, review_id: str) -> Review | None:
        with closing(self._database.execute("SELECT json FROM review WHERE id = ?", (review_id,))) as found:
            row = found.fetchone()
        return Review.model_validate_json(row[0]) if row else None

    def close(self) -> None:
        self._database.close()


def from_store(
    stored: Iterable[StoredGeneration], reviews: ReviewIndex, skipped: Counter[str]
) -> Iterator[tuple[Review, Generation]]:
    """Generations with their reviews, as the teacher read them.

    ``skipped`` counts the generations whose review is missing or has another text.

    The text of a review may change while its id stays the same (a newer dump, a fixed encoding). The store then has
    generations about both texts, and a generation about the old text must not be paired with the new text.
    """
    for row in stored:
        review = reviews.get(row.review_id)
        if review is None:
            skipped["generation without its review"] += 1
            continue
        # fsa teach cleans the text of reviews and converts its HTML, which its earlier versions did not convert; here
        # the reviews are as in their file.
        cleaned = (clean(review.text)[0] for clean in (clean_text, readable_text))
        text = next(filter(row.is_about, chain([review.text], cleaned)), None)
        if text is None:
            skipped["generation about another text of its review"] += 1
        else:
            read = review if text == review.text else review.model_copy(update={"text": text})
            yield read, row.generation(keep_cut_off=True)
