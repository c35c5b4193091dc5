"""``fsa teach --preview``: sends the first requests of a job, to look at the answers before the others are paid."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import islice

from fsa_jax.reviews.source import Losses
from fsa_jax.teacher.cost import Bill, bills
from fsa_jax.teacher.endpoint import IN_FLIGHT, EndpointSettings
from fsa_jax.teacher.estimate import ENOUGH, Estimate
from fsa_jax.teacher.generation_requests import CHARACTERS_PER_TOKEN, Message, Request, expected_input_tokens
from fsa_jax.teacher.interruption import Interruption
from fsa_jax.teacher.price_history import PriceHistory
from fsa_jax.teacher.results import Preview, PreviewedRequest, TeachResult
from fsa_jax.teacher.run_teach import Listener, Task, estimate_missing, run
from fsa_jax.teacher.store.parts import StoredGeneration
from fsa_jax.teacher.store.reader import StoreReader
from fsa_jax.text import analysis


def preview(
    task: Task,
    count: int,
    listener: Listener,
    interruption: Interruption,
    *,
    tokens_per_second: float | None = None,
    tokenizer: str | None = None,
) -> TeachResult:
    """Sends the first ``count`` requests of a task unless they are stored, and estimates the others from them.

    Args:
      task: the settings.
      count: number of requests, at least 1.
      listener: who is told about it.
      interruption: what ends it early.
      tokens_per_second: speed in output tokens per second; by default that of the answers.
      tokenizer: tokenizer that counts tokens; by default they are estimated from the answers.

    Raises:
      FsaError: the engine, the store, the input or a setting does not work.
    """
    first = {request.key: request for request in islice(task.requests(Losses()), count)}
    before = _rows(task, first)
    result = interruption.run(run(task, listener, interruption, tuple(first.values())))
    rows = _rows(task, first)
    factor = _tokens_per_expected(first, rows)
    estimated = estimate_missing(
        task,
        tokens_per_second,
        tokenizer,
        count_input=lambda request: round(factor * expected_input_tokens(request)),
        counted_by=f"their characters, {CHARACTERS_PER_TOKEN / factor:.1f} per token as in these requests",
        enough=1,
    )
    assert estimated.estimate is not None
    total = Bill()
    history = PriceHistory(task.store)
    for bill in bills([rows.values()], [history.pricing(task.shard.folder)]).values():
        total.add(bill)
    shown = Preview(
        requests=tuple(_previewed(task, first, before, rows)),
        input_tokens=total.input_tokens,
        output_tokens=total.output_tokens,
        cost=None if total.unpriced or not rows else total.cost,
        fastest_seconds=_fastest(task, estimated.estimate, list(rows.values())),
    )
    return replace(result, losses=estimated.losses, estimate=estimated.estimate, preview=shown)


def _rows(task: Task, requests: dict[bytes, Request]) -> dict[bytes, StoredGeneration]:
    if not any(task.store.glob("shard-*-of-*")):
        return {}
    return StoreReader(task.store).find(requests.keys())


def _previewed(
    task: Task,
    requests: dict[bytes, Request],
    before: dict[bytes, StoredGeneration],
    rows: dict[bytes, StoredGeneration],
) -> list[PreviewedRequest]:
    chat = _chats(task, [request for key, request in requests.items() if key in rows])
    result = []
    for key, row in ((key, rows[key]) for key in requests if key in rows):
        answered = row.failure is None and row.text is not None
        result.append(
            PreviewedRequest(
                review_id=row.review_id,
                prompt=row.prompt,
                understanding=row.understanding,
                messages=chat[key],
                text=row.text,
                failure=row.failure,
                stored_before=key in before and before[key].attempt == row.attempt,
                analysis=analysis.parse(row.text or "") if answered and row.understanding == "analysis" else None,
            )
        )
    return result


def _chats(task: Task, requests: Sequence[Request]) -> dict[bytes, tuple[Message, ...]]:
    if isinstance(task.engine, EndpointSettings):
        merge = task.engine.merge_system
        return {one.key: tuple(one.prompt.messages(one.text, merge_system=merge)) for one in requests}
    tokenizer = task.tokenizer(task.maker.teacher.name)
    return {request.key: tuple(tokenizer.messages(request)) for request in requests}


def _tokens_per_expected(requests: dict[bytes, Request], rows: dict[bytes, StoredGeneration]) -> float:
    """Input tokens that the teacher counted, for each one that was expected from the number of characters."""
    counted = {key: row.input_tokens for key, row in rows.items() if row.input_tokens}
    expected = sum(expected_input_tokens(requests[key]) for key in counted)
    return sum(counted.values()) / expected if expected else 1.0


def _fastest(task: Task, estimate: Estimate, rows: list[StoredGeneration]) -> float | None:
    """Seconds for the missing requests if all that are in flight are answered as fast as these few were."""
    times = [row.seconds for row in rows if row.failure is None]
    if estimate.seconds is None or estimate.speed_from is None or estimate.speed_from >= ENOUGH or not times:
        return None
    if not isinstance(task.engine, EndpointSettings):
        return None  # a batch of vLLM is slower than one request, and by how much is not known
    mean = sum(times) / len(times)
    fastest = estimate.requests * mean / min(task.settings.in_flight or IN_FLIGHT, max(1, estimate.requests))
    if limit := task.engine.requests_per_minute:
        fastest = max(fastest, estimate.requests / limit * 60)
    if limit := task.engine.tokens_per_minute:
        fastest = max(fastest, (estimate.input_tokens + estimate.output_tokens) / limit * 60)
    return min(fastest, estimate.seconds)
