"""Connects the parts of ``fsa teach``: reviews, store, engine, prices, budget and interruptions. Prints nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Event

from fsa_base.errors import SettingError
from fsa_jax.reviews.source import Losses, Source
from fsa_jax.teacher.chat_template import TeacherTokenizer
from fsa_jax.teacher.cost import Bill, Bills, Budget, Prices, bills
from fsa_jax.teacher.endpoint import Endpoint, EndpointSettings
from fsa_jax.teacher.estimate import ENOUGH, estimate
from fsa_jax.teacher.generation_requests import Request, RequestMaker, expected_input_tokens
from fsa_jax.teacher.http_client import url_without_secrets
from fsa_jax.teacher.interruption import Interruption
from fsa_jax.teacher.job import (
    Engine,
    Job,
    JobSettings,
    count_requests,
    missing_requests,
    read_reviews,
    requests_about,
    unless_empty,
)
from fsa_jax.teacher.outcome import Outcome
from fsa_jax.teacher.price_history import PriceHistory
from fsa_jax.teacher.progress import Progress, reporting
from fsa_jax.teacher.results import TeachResult
from fsa_jax.teacher.store.shard_files import Shard
from fsa_jax.teacher.store.writer import ShardWriter
from fsa_jax.teacher.vllm_sidecar import TEMPLATE_ARGUMENTS, VllmSettings, VllmSidecar


@dataclass(frozen=True)
class Task:
    """All settings of one run of ``fsa teach``. The limits are for all shards together.

    Attributes:
      given_prices: the prices that the user gives, by the name of the attribute of Prices; the store knows the others.
    """

    sources: list[Source]
    limit: int | None
    store: Path
    shard: Shard
    maker: RequestMaker
    engine: EndpointSettings | VllmSettings
    settings: JobSettings
    given_prices: Mapping[str, float]
    max_tokens_total: float | None
    max_cost: float | None
    devices: int | None
    retry_failed: bool
    stop_seconds: float = 20.0
    trust_remote_code: bool = False

    def requests(self, losses: Losses) -> Iterator[Request]:
        """All requests of the task, from the beginning of its reviews."""
        return requests_about(read_reviews(self.sources, losses, self.limit), self.maker, self.shard)

    def tokenizer(self, name: str) -> TeacherTokenizer:
        """The tokenizer with a given name or folder; that of the teacher in the teacher's revision."""
        teacher = self.maker.teacher
        on_hub = name == teacher.name and not Path(name).is_dir()
        return TeacherTokenizer(
            name,
            teacher.revision if on_hub else None,
            teacher.sampling.extra.get(TEMPLATE_ARGUMENTS),
            trust_remote_code=self.trust_remote_code,
        )


@dataclass(frozen=True)
class Listener:
    """Who is told what happens during a run.

    Attributes:
      progress: called every second with the progress; None for nobody.
      say: called with single lines: changed prices, unfinished lines of a killed job, the server that is asked and its
        first trouble, a signal.
    """

    progress: Callable[[Progress], None] | None = None
    say: Callable[[str], None] = lambda line: None


async def run(
    task: Task, listener: Listener, interruption: Interruption, only: Sequence[Request] | None = None
) -> TeachResult:
    """Sends the missing requests of a task and stores the answers.

    Args:
      task: the settings.
      listener: who is told about it.
      interruption: what ends the job early.
      only: the requests to consider; None for all of the task.

    Raises:
      FsaError: the engine, the store, the input or a setting does not work.
    """
    losses, outcome = Losses(), Outcome()
    with ShardWriter(task.store, task.shard, retry_failed=task.retry_failed) as writer:
        if writer.torn:
            listener.say(f"{writer.torn} unfinished lines of a killed job: their requests are sent again")
        history = PriceHistory(task.store)
        prices, said = history.settle(task.maker.teacher.name, task.given_prices, task.shard.folder)
        if said:
            listener.say(said)
        if prices is not None:
            history.add(task.maker.teacher.name, prices, task.shard.folder)
        elif task.max_cost is not None:
            raise SettingError(
                "--max-cost",
                expected="prices, given or in the store",
                found="none",
                fix="add --price-input and --price-output, or --price-device-hour",
            )
        requests = task.requests(losses) if only is None else iter(only)
        batches = unless_empty(missing_requests(requests, writer, outcome))
        cost = None if prices is None else 0.0
        if batches is not None:
            engine = await _start_engine(task, listener, proven=len(writer.done) > 0)
            try:
                if task.devices is not None:
                    engine.devices = task.devices
                budget = _budget(task, writer, history, prices, engine.devices)
                job = Job(engine, task.maker.teacher, writer, budget, task.settings, outcome)

                def count(stopped: Event) -> tuple[int, int] | None:
                    every = task.requests(Losses()) if only is None else iter(only)
                    return count_requests(every, writer, stopped)

                with interruption.of(job):
                    async with reporting(job, budget, listener.progress, count):
                        await job.run(batches)
                cost = budget.cost_now
            finally:
                await engine.close()
    return TeachResult(
        done=outcome.answered,
        failures=dict(outcome.failures.most_common()),
        skipped=outcome.skipped,
        input_tokens=outcome.input_tokens,
        output_tokens=outcome.output_tokens,
        seconds=outcome.seconds,
        cost=cost,
        prices=prices,
        stopped=outcome.stopped,
        unanswered=outcome.dropped,
        redacted=outcome.redacted,
        losses=losses,
    )


async def _start_engine(task: Task, listener: Listener, *, proven: bool) -> Engine:
    teacher = task.maker.teacher
    if isinstance(task.engine, EndpointSettings):
        listener.say(f"asking {teacher.name} at {url_without_secrets(task.engine.url)}")
        return Endpoint(teacher, task.engine, task.settings.in_flight, proven=proven, say=listener.say)
    return await VllmSidecar.start(teacher, task.engine, task.tokenizer(teacher.name))


def _own_bills(task: Task, writer: ShardWriter, history: PriceHistory) -> Bills:
    """The bills of this teacher in this shard until now."""
    rows = (row for row in writer.stored() if row.teacher == task.maker.teacher.name)
    return bills([rows], [history.pricing(task.shard.folder)])


def _budget(task: Task, writer: ShardWriter, history: PriceHistory, prices: Prices | None, devices: int) -> Budget:
    """This shard's share of the budget. Shards have about equally many reviews, so they need not communicate.

    Earlier requests count with the prices at which they were sent, not with those of today.
    """
    share = 1 / task.shard.count
    spent = Bill()
    if task.max_tokens_total is not None or task.max_cost is not None:
        for bill in _own_bills(task, writer, history).values():
            spent.add(bill)
    return Budget(
        prices,
        max_tokens=None if task.max_tokens_total is None else task.max_tokens_total * share,
        max_cost=None if task.max_cost is None else task.max_cost * share,
        spent_tokens=spent.input_tokens + spent.output_tokens,
        spent_cost=spent.cost,
        devices=devices,
    )


def estimate_missing(
    task: Task,
    tokens_per_second: float | None,
    tokenizer: str | None,
    *,
    count_input: Callable[[Request], int] = expected_input_tokens,
    counted_by: str = "their characters, four per token",
    enough: int = ENOUGH,
) -> TeachResult:
    """Estimates the cost of the missing part of a job, without sending any request.

    Args:
      task: settings of the job.
      tokens_per_second: speed in output tokens per second. If None, the speed of earlier answers in the store.
      tokenizer: name or folder of the tokenizer that counts tokens. If None, the teacher's tokenizer for vLLM, and
        ``count_input`` for endpoints.
      count_input: function that counts the input tokens of one request if there is no tokenizer.
      counted_by: what ``count_input`` counts with.
      enough: number of answers that the store must have before its lengths and speed are used.
    """
    losses, outcome = Losses(), Outcome()
    devices = task.devices or 0
    if isinstance(task.engine, VllmSettings):
        tokenizer = tokenizer or task.maker.teacher.name
        if task.devices is None:
            devices = task.engine.tensor_parallel * task.engine.pipeline_parallel
    counter = task.tokenizer(tokenizer).count if tokenizer else count_input
    with ShardWriter(task.store, task.shard, retry_failed=task.retry_failed) as writer:
        history = PriceHistory(task.store)
        prices, _ = history.settle(task.maker.teacher.name, task.given_prices, task.shard.folder)
        result = estimate(
            missing_requests(task.requests(losses), writer, outcome),
            task.maker,
            task.settings,
            counter,
            _own_bills(task, writer, history),
            tokens_per_second=tokens_per_second,
            devices=devices,
            seed=task.maker.teacher.seed,
            enough=enough,
        )
    result.counted_by = f"the tokenizer of {tokenizer}" if tokenizer else counted_by
    return TeachResult(skipped=outcome.skipped, prices=prices, losses=losses, estimate=result)
