"""The teaching job: reads reviews and stores generations, with bounded memory and bounded loss if it is killed.

A feeder thread reads reviews and passes on the requests that are not in the store. A fixed number of workers send them
to the engine. A committer writes the answers. A worker takes its next request only after its last answer is written, so
a kill loses at most one request per worker. A separate thread syncs the disk every second, so that a slow disk does not
delay the workers; a power cut can lose the answers since the last sync.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import chain, islice
from threading import Event
from typing import Protocol

from fsa_base.errors import DataError, TeacherError
from fsa_jax.common.records import Review
from fsa_jax.reviews.raw_row import BadRow
from fsa_jax.reviews.row_to_review import Fields, parse_review, probe
from fsa_jax.reviews.source import Losses, Source, row_count, shown_losses
from fsa_jax.reviews.stars import UNCHANGED
from fsa_jax.teacher.answers import ENGINE_ERROR, TOO_LONG, Answer, failed, failure_reason
from fsa_jax.teacher.cost import Budget
from fsa_jax.teacher.generation_requests import Request, RequestMaker, Teacher, engine_seed, expected_input_tokens
from fsa_jax.teacher.outcome import Outcome
from fsa_jax.teacher.store.key_set import KeySet, as_keys
from fsa_jax.teacher.store.parts import StoredGeneration
from fsa_jax.teacher.store.shard_files import Shard
from fsa_jax.teacher.store.writer import ShardWriter


def read_reviews(sources: list[Source], losses: Losses, limit: int | None = None) -> Iterator[Review]:
    """Yields reviews in the order of their files, one at a time, with the texts that ``fsa sample`` writes.

    They have no stars: no request needs them, and to decide the scale of a file's stars, all its rows may have to be
    read.

    Args:
      sources: files or folders: output of ``fsa sample``, the papers' release (``ID Text Overall``), or a dump.
      losses: counter of rows without text, broken JSON, fixed encodings and so on, with their places.
      limit: largest number of reviews; None for all.

    Raises:
      DataError: the content of a file does not fit its name, or there are rows but no review.
    """
    count, probes = 0, []
    for source in sources:
        for name, rows in source.parts():
            probes.append(probe(rows, Fields({}), UNCHANGED))
            fields = replace(probes[-1].fields, scale=None)
            number = 0
            for raw in rows():
                if limit is not None and count >= limit:
                    return
                place = f"{name}:{raw.line or number + 1}"
                number += row_count(raw)
                losses.read += row_count(raw)
                row = raw if isinstance(raw, BadRow) else raw.parse()
                parsed = row if isinstance(row, BadRow) else parse_review(row, fields)
                if isinstance(parsed, BadRow):
                    losses.drop(parsed.reason, place, row_count(raw))
                    continue
                for repair in parsed.repairs if isinstance(raw, BadRow) else (*raw.repairs, *parsed.repairs):
                    losses.repair(repair, place)
                count += 1
                losses.kept += 1
                yield parsed.review
    if losses.dropped and not count:
        raise DataError(
            ", ".join(source.location for source in sources),
            expected="at least one review with a text",
            found=shown_losses(losses.dropped, probes),
            fix="if the text is in another column, run fsa sample with --columns text=COLUMN, then teach its output",
        )


BATCH = 1024
"""Number of requests that are looked up in the store at a time."""

SYNC_SECONDS = 1.0

_COUNT_PAUSE = 0.001
"""Seconds between two batches of ``count_requests``, so that the job is not slowed down while it counts."""

# The store and the reviews each have their own thread. In a shared pool, the heap of every thread would grow to the
# size that the largest piece of work needs.


@dataclass(frozen=True)
class JobSettings:
    """Settings of a job.

    Args:
      in_flight: number of simultaneous requests. If None, the engine decides.
      max_review_characters: limit on the length of a review. Longer ones are stored as a ``too long`` failure without
        being sent, so they cost nothing.
      max_consecutive_errors: number of engine errors in a row after which the job stops.
    """

    in_flight: int | None = None
    max_review_characters: int = 20_000
    max_consecutive_errors: int = 100


class Engine(Protocol):
    """Something that answers requests: vLLM in this process, or an endpoint.

    Attributes:
      devices: number of accelerators that it uses; 0 if none or unknown.
      in_flight: number of simultaneous requests that keeps it busy.
    """

    devices: int
    in_flight: int

    async def ask(self, request: Request) -> Answer | None:
        """Answers one request. A failure of this request alone is returned as an Answer with ``failure``.

        Returns:
          None if the engine was told to stop while the request was waiting to be sent.

        Raises:
          TeacherError: the engine cannot answer any request.
        """
        ...

    def stop(self) -> None:
        """Sends no more requests; requests that were sent may still be answered."""
        ...

    async def close(self) -> None:
        """Releases the resources of the engine."""
        ...


def requests_about(reviews: Iterable[Review], maker: RequestMaker, shard: Shard) -> Iterator[Request]:
    """All requests about this shard's reviews, as first attempts, whether they are stored or not."""
    return (request for review in reviews if shard.holds(review.id) for request in maker.requests(review))


def missing_requests(requests: Iterable[Request], writer: ShardWriter, outcome: Outcome) -> Iterator[list[Request]]:
    """Batches of the requests that are not stored yet, each key once. The others are counted as skipped."""
    seen = KeySet()
    every = iter(requests)
    while batch := list(islice(every, BATCH)):
        keys = as_keys([request.key for request in batch])
        # If the input has a review twice, only one request is sent.
        missing = seen.add_new(keys) & ~writer.done.contains(keys)
        outcome.skipped += len(batch) - int(missing.sum())
        yield [_retried(request, writer) for request, wanted in zip(batch, missing.tolist(), strict=True) if wanted]


def count_requests(requests: Iterable[Request], writer: ShardWriter, stopped: Event) -> tuple[int, int] | None:
    """How many requests are stored and how many are missing; None if it is stopped before it knows.

    Args:
      requests: the same requests as those of the job, from an iterator of their own.
      writer: writer of the open shard.
      stopped: when it is set, the count ends.
    """
    found = Outcome()
    missing = 0
    for batch in missing_requests(requests, writer, found):
        missing += len(batch)
        if stopped.wait(_COUNT_PAUSE):
            return None
    return found.skipped, missing


def unless_empty(batches: Iterator[list[Request]]) -> Iterator[list[Request]] | None:
    """The batches, or None if they have no request. A model takes minutes to load, so it is not loaded for nothing."""
    first = next((batch for batch in batches if batch), None)
    return None if first is None else chain([first], batches)


def _retried(request: Request, writer: ShardWriter) -> Request:
    attempt = writer.failed_attempts.get(request.key, 0)
    return replace(request, attempt=attempt, engine_seed=engine_seed(request.key, attempt)) if attempt else request


class _Committer:
    """Writes rows in groups (group commit): rows that arrive while one group is being written form the next group."""

    def __init__(self, writer: ShardWriter) -> None:
        self._writer = writer
        self._waiting: list[tuple[StoredGeneration, asyncio.Future[None]]] = []
        self._arrived = asyncio.Event()
        self._finishing = False

    async def store(self, row: StoredGeneration) -> None:
        """Returns when the row is written."""
        done = asyncio.get_running_loop().create_future()
        self._waiting.append((row, done))
        self._arrived.set()
        # If the caller is cancelled while it waits, its row is still stored with its group.
        await asyncio.shield(done)

    def finish(self) -> None:
        """Lets ``run`` return once all rows that have arrived are stored."""
        self._finishing = True
        self._arrived.set()

    async def run(self) -> None:
        """Stores groups of rows until ``finish`` is called. Must not be cancelled: waiting workers would never wake up.

        Raises:
          StoreError: the rows cannot be written.
        """
        loop = asyncio.get_running_loop()
        syncing: asyncio.Future[None] | None = None
        synced = 0.0
        with ThreadPoolExecutor(1, "store") as thread, ThreadPoolExecutor(1, "sync") as sync_thread:
            while self._waiting or not self._finishing:
                await self._arrived.wait()
                self._arrived.clear()
                group, self._waiting = self._waiting, []
                if group:
                    await loop.run_in_executor(thread, self._writer.append, [row for row, _ in group])
                for _, done in group:
                    done.set_result(None)
                if syncing is not None and syncing.done():
                    syncing.result()
                if (syncing is None or syncing.done()) and time.monotonic() - synced > SYNC_SECONDS:
                    synced = time.monotonic()
                    syncing = loop.run_in_executor(sync_thread, self._writer.sync)
            if syncing is not None:
                await syncing


class Job:
    """One run of ``fsa teach``.

    Args:
      engine: engine that answers the requests.
      teacher: teacher under whose name the answers are stored.
      writer: writer of the open shard.
      budget: limit on tokens and cost.
      settings: settings of the job.
      outcome: counts to update; pass the one of ``missing_requests``, which counts the skipped requests.
    """

    def __init__(
        self,
        engine: Engine,
        teacher: Teacher,
        writer: ShardWriter,
        budget: Budget,
        settings: JobSettings,
        outcome: Outcome | None = None,
    ) -> None:
        self._engine = engine
        self._teacher = teacher
        self._writer = writer
        self._budget = budget
        self._settings = settings
        self._in_flight = settings.in_flight or engine.in_flight
        self._stop = asyncio.Event()
        self._drop = asyncio.Event()
        self._errors_in_a_row = 0
        self.outcome = outcome or Outcome()

    def stop(self, reason: str) -> None:
        """Ends the job after the requests in flight have been answered and stored."""
        self.outcome.stopped = self.outcome.stopped or reason
        self._stop.set()

    def interrupt(self, reason: str, seconds: float) -> None:
        """Ends the job within about ``seconds``: waiting requests are not sent, and answers that come later are
        lost."""
        self.stop(reason)
        self._engine.stop()
        asyncio.get_running_loop().call_later(seconds, self._drop.set)

    async def run(self, batches: Iterator[list[Request]]) -> Outcome:
        """Sends all requests of ``batches`` to the engine and stores the answers.

        Raises:
          TeacherError: the engine cannot answer, or failed too often in a row.
          StoreError: the answers cannot be written.
        """
        requests: asyncio.Queue[Request | None] = asyncio.Queue(maxsize=2 * self._in_flight)
        committer = _Committer(self._writer)
        self.outcome.began = time.monotonic()
        storing = asyncio.create_task(committer.run())
        tasks = [
            asyncio.create_task(self._feed(batches, requests)),
            *(asyncio.create_task(self._work(requests, committer)) for _ in range(self._in_flight)),
        ]
        asking = asyncio.create_task(asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION))
        dropping = asyncio.create_task(self._drop.wait())
        try:
            # The storing task ends before the asking task only if it fails.
            await asyncio.wait({asking, storing, dropping}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (asking, dropping, *tasks):
                task.cancel()
            results = await asyncio.gather(*tasks, return_exceptions=True)
            # Answers that arrived before a failure are paid for, so they are stored.
            committer.finish()
            await storing
        for result in results:
            if isinstance(result, Exception):
                raise result
        return self.outcome

    async def _feed(self, batches: Iterator[list[Request]], requests: asyncio.Queue[Request | None]) -> None:
        loop = asyncio.get_running_loop()
        with ThreadPoolExecutor(1, "reviews") as thread:
            while not self._stop.is_set():
                batch = await loop.run_in_executor(thread, next, batches, None)
                if batch is None:
                    break
                for request in batch:
                    if self._stop.is_set():
                        break
                    await requests.put(request)
        for _ in range(self._in_flight):
            await requests.put(None)

    async def _work(self, requests: asyncio.Queue[Request | None], committer: _Committer) -> None:
        while (request := await requests.get()) is not None:
            # After a stop, workers still empty the queue; otherwise the feeder would wait forever.
            if self._stop.is_set():
                continue
            row = await self._generate(request)
            if row is None:
                continue
            await committer.store(row)
            self._count(row)

    async def _generate(self, request: Request) -> StoredGeneration | None:
        if len(request.text) > (limit := self._settings.max_review_characters):
            answer = failed(TOO_LONG, f"a review of {len(request.text):,} characters, the limit is {limit:,}")
            return self._row(request, answer, time.time(), 0.0)
        reserved = expected_input_tokens(request), self._teacher.sampling.max_tokens
        if not await self._budget.reserve(*reserved):
            self.stop(f"the budget is used up: {self._budget.used_up}")
            return None
        began, started = time.time(), time.monotonic()
        used = (0, 0)
        try:
            answer = await self._engine.ask(request)
            if answer is None:
                return None
            used = answer.input_tokens or 0, answer.output_tokens or 0
            self.outcome.redacted += answer.redacted
        except asyncio.CancelledError:
            self.outcome.dropped += 1
            raise
        finally:
            await self._budget.settle(reserved, used)
        return self._row(request, answer, began, time.monotonic() - started)

    def _row(self, request: Request, answer: Answer, began: float, seconds: float) -> StoredGeneration:
        teacher = self._teacher
        return StoredGeneration(
            key=request.key,
            review_id=request.review_id,
            understanding=request.prompt.understanding,
            prompt=request.prompt.name,
            prompt_hash=request.prompt.hash,
            teacher=teacher.name,
            teacher_revision=teacher.revision,
            sampling=teacher.sampling.canonical,
            seed=teacher.seed,
            sample=request.sample,
            attempt=request.attempt,
            text=answer.text,
            failure=answer.failure,
            input_tokens=answer.input_tokens,
            output_tokens=answer.output_tokens,
            finished=began + seconds,
            seconds=seconds,
            devices=self._engine.devices,
        )

    def _count(self, row: StoredGeneration) -> None:
        outcome = self.outcome
        outcome.input_tokens += row.input_tokens or 0
        outcome.output_tokens += row.output_tokens or 0
        reason = None if row.failure is None else failure_reason(row.failure)
        if reason is None:
            outcome.answered += 1
        else:
            outcome.failures[reason] += 1
        self._errors_in_a_row = self._errors_in_a_row + 1 if reason == ENGINE_ERROR else 0
        # "==", not ">=": requests that were under way when the job stopped are counted too, and must not raise again.
        if self._errors_in_a_row == self._settings.max_consecutive_errors:
            raise TeacherError(
                self._teacher.name,
                expected="a teacher that answers",
                found=f"{self._errors_in_a_row} engine errors in a row, the last one: {row.failure}",
                fix="fix the engine, then run the same command with --retry-failed",
            )
