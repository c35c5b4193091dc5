"""Connects the parts of ``fsa teach``: reviews, store, engine, budget, signals and printed messages."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from fsa_jax.reviews.source import Losses, Source
from fsa_jax.teacher import cost_report
from fsa_jax.teacher.chat_template import TeacherTokenizer
from fsa_jax.teacher.cost import Bill, Bills, Budget, Prices, bills
from fsa_jax.teacher.endpoint import Endpoint, EndpointSettings
from fsa_jax.teacher.estimate import estimate
from fsa_jax.teacher.generation_requests import Request, RequestMaker, expected_input_tokens
from fsa_jax.teacher.job import Engine, Job, JobSettings, Outcome, missing_requests, read_reviews, unless_empty
from fsa_jax.teacher.store.shard_files import Shard
from fsa_jax.teacher.store.writer import ShardWriter
from fsa_jax.teacher.vllm_sidecar import TEMPLATE_ARGUMENTS, VllmSettings, VllmSidecar, require_vllm


@dataclass(frozen=True)
class Task:
    """All settings of one run of ``fsa teach``. The limits are for all shards together."""

    sources: list[Source]
    limit: int | None
    store: Path
    shard: Shard
    maker: RequestMaker
    engine: EndpointSettings | VllmSettings
    settings: JobSettings
    prices: Prices
    max_tokens_total: float | None
    max_cost: float | None
    devices: int | None
    retry_failed: bool
    stop_seconds: float = 20.0
    trust_remote_code: bool = False


async def teach(task: Task) -> int:
    """Runs the job.

    Returns:
      0 if everything that was asked for is stored, 1 if the job ended before that.

    Raises:
      FsaError: the engine, the store or the input does not work.
    """
    losses = Losses()
    if isinstance(task.engine, VllmSettings):
        require_vllm()
    with ShardWriter(task.store, task.shard, retry_failed=task.retry_failed) as writer:
        if writer.torn:
            print(f"{writer.torn} unfinished lines of a killed job: their requests are sent again", file=sys.stderr)
        outcome = Outcome()
        reviews = read_reviews(task.sources, losses, task.limit)
        batches = unless_empty(missing_requests(reviews, task.maker, task.shard, writer, outcome))
        if batches is not None:
            await _ask(task, writer, batches, outcome)
    _print_outcome(outcome, losses)
    if outcome.stored or outcome.skipped:
        cost_report.print_report(task.store, task.prices)
    return 1 if outcome.stopped else 0


async def _ask(task: Task, writer: ShardWriter, batches: Iterator[list[Request]], outcome: Outcome) -> None:
    engine = await _start_engine(task, proven=len(writer.done) > 0)
    try:
        if task.devices is not None:
            engine.devices = task.devices
        with _progress() as progress:
            budget = _budget(task, writer, engine.devices)
            job = Job(engine, task.maker.teacher, writer, budget, task.settings, progress, outcome)
            with _signals(job, task.stop_seconds):
                await job.run(batches)
    finally:
        await engine.close()


async def _start_engine(task: Task, *, proven: bool) -> Engine:
    if isinstance(task.engine, EndpointSettings):
        return Endpoint(task.maker.teacher, task.engine, task.settings.in_flight, proven=proven)
    tokenizer = _tokenizer(task, task.maker.teacher.name)
    return await VllmSidecar.start(task.maker.teacher, task.engine, tokenizer)


def _tokenizer(task: Task, name: str) -> TeacherTokenizer:
    teacher = task.maker.teacher
    on_hub = name == teacher.name and not Path(name).is_dir()
    return TeacherTokenizer(
        name,
        teacher.revision if on_hub else None,
        teacher.sampling.extra.get(TEMPLATE_ARGUMENTS),
        trust_remote_code=task.trust_remote_code,
    )


def _own_bills(task: Task, writer: ShardWriter) -> Bills:
    """The bills of this teacher in this shard until now."""
    return bills([(row for row in writer.stored() if row.teacher == task.maker.teacher.name)])


def _budget(task: Task, writer: ShardWriter, devices: int) -> Budget:
    """This shard's share of the budget. Shards have about equally many reviews, so they need not communicate."""
    share = 1 / task.shard.count
    spent = Bill()
    if task.max_tokens_total is not None or task.max_cost is not None:
        for bill in _own_bills(task, writer).values():
            spent.add(bill)
    return Budget(
        task.prices,
        max_tokens=None if task.max_tokens_total is None else task.max_tokens_total * share,
        max_cost=None if task.max_cost is None else task.max_cost * share,
        spent_tokens=spent.input_tokens + spent.output_tokens,
        spent_cost=spent.cost(task.prices),
        devices=devices,
    )


@contextmanager
def _progress() -> Iterator[Callable[[Outcome], None]]:
    with tqdm(unit=" rows", unit_scale=True, mininterval=1, disable=not sys.stderr.isatty()) as bar:

        def show(outcome: Outcome) -> None:
            if bar.update(outcome.stored - bar.n):
                speed = outcome.output_tokens / max(outcome.seconds, 1e-9)
                bar.set_postfix(
                    {"failed": outcome.failures.total(), "tokens/s": f"{speed:,.0f}", "there": outcome.skipped}
                )

        yield show


@contextmanager
def _signals(job: Job, seconds: float) -> Iterator[None]:
    """Handles Ctrl-C and SIGTERM: the first ends the job within ``seconds``, the second at once. Stored rows stay."""
    loop = asyncio.get_running_loop()
    received = 0

    def stop(name: str) -> None:
        nonlocal received
        received += 1
        if received == 1:
            print(f"{name}: waiting {seconds:g} s for answers in flight; repeat it to stop at once", file=sys.stderr)
        job.interrupt(name, seconds if received == 1 else 0.0)

    handled = (signal.SIGINT, signal.SIGTERM)
    for number in handled:
        loop.add_signal_handler(number, stop, number.name)
    try:
        yield
    finally:
        for number in handled:
            loop.remove_signal_handler(number)


def _print_outcome(outcome: Outcome, losses: Losses) -> None:
    print(
        f"{outcome.answered:,} answers and {outcome.failures.total():,} failures stored in {outcome.seconds:,.0f} s; "
        f"{outcome.skipped:,} were stored before"
    )
    for reason, count in outcome.failures.most_common():
        print(f"  failed, {reason}: {count:,}")
    for reason, count in losses.dropped.most_common():
        print(f"  not asked about, {reason}: {count:,} rows ({', '.join(losses.places[reason][:3])})")
    for reason, count in losses.repaired.most_common():
        print(f"  fixed, {reason}: {count:,} rows")
    if outcome.redacted:
        print(f"  {outcome.redacted:,} answers had the API key in them; it is removed from the stored text")
    if outcome.dropped:
        print(f"  {outcome.dropped:,} requests were sent but not waited for: they are sent and paid again")
    if outcome.failures:
        print("  to retry failures, run the same command with --retry-failed")
    if outcome.stopped:
        print(f"stopped early, {outcome.stopped}; run the same command again to continue")


def print_estimate(task: Task, tokens_per_second: float | None, tokenizer: str | None) -> None:
    """Prints the estimated cost of the missing part of a job, without sending any request.

    Args:
      task: settings of the job.
      tokens_per_second: speed in output tokens per second. If None, the speed of earlier answers in the store.
      tokenizer: name or folder of the tokenizer that counts tokens. If None, the teacher's tokenizer for vLLM, and an
        estimate from the number of characters for endpoints.
    """
    losses, outcome = Losses(), Outcome()
    devices = task.devices or 0
    if isinstance(task.engine, VllmSettings):
        tokenizer = tokenizer or task.maker.teacher.name
        if task.devices is None:
            devices = task.engine.tensor_parallel * task.engine.pipeline_parallel
    counter = _tokenizer(task, tokenizer).count if tokenizer else expected_input_tokens
    with ShardWriter(task.store, task.shard, retry_failed=task.retry_failed) as writer:
        reviews = read_reviews(task.sources, losses, task.limit)
        result = estimate(
            missing_requests(reviews, task.maker, task.shard, writer, outcome),
            task.maker,
            task.settings,
            counter,
            _own_bills(task, writer),
            tokens_per_second=tokens_per_second,
            devices=devices,
            seed=task.maker.teacher.seed,
        )
    print(f"{outcome.skipped:,} requests are in the store already")
    for reason, count in losses.dropped.most_common():
        print(f"  not asked about, {reason}: {count:,} rows")
    counted_by = f"the tokenizer of {tokenizer}" if tokenizer else "their characters, four per token"
    cost_report.print_estimate(result, task.prices, counted_by)
