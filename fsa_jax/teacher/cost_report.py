"""Tables of costs: the bill of a store, and the estimate for a job."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from rich.table import Table

from fsa_jax.common.terminal import console
from fsa_jax.teacher.cost import Bill, Prices, amount, bills
from fsa_jax.teacher.estimate import Estimate
from fsa_jax.teacher.price_history import PriceHistory
from fsa_jax.teacher.progress import duration
from fsa_jax.teacher.store.reader import StoreReader

PRICE_OPTIONS = "--price-input and --price-output, or --price-device-hour"


def print_report(store: Path, given: Mapping[str, float] | None = None) -> None:
    """Prints the requests, tokens, time and cost of everything in a store.

    Args:
      store: folder of the store.
      given: prices for all requests, by the name of the attribute of Prices. If none are given, each request has the
        price at which it was sent, as far as the store knows it.

    Raises:
      MissingDataError: there is no store.
      StoreError: a part or the file of prices is damaged.
    """
    reader, history = StoreReader(store), PriceHistory(store)
    chosen = Prices(**given) if given else None
    pricings = [(lambda teacher, at: chosen) if chosen else history.pricing(shard) for shard in reader.shards]
    found = bills(reader.attempts_by_shard(), pricings)
    requests = Table("teacher", "prompt", title=f"Requests of {store}")
    costs = Table("teacher", "prompt", title="Time and cost")
    for table, names in (
        (requests, ("requests", "reviews", "input tokens", "output tokens", "tokens/s")),
        (costs, ("hours", "GPU-hours", "tokens per review", "cost", "cost per 1,000 reviews")),
    ):
        for name in names:
            table.add_column(name, justify="right")
    requests.add_column("failures")
    total = Bill()
    for (teacher, prompt), bill in sorted(found.items()):
        requests.add_row(teacher, prompt, *_requests(bill))
        costs.add_row(teacher, prompt, *_costs(bill))
        total.add(bill)
    for table, cells in ((requests, _requests(total)), (costs, _costs(total))):
        table.add_section()
        table.add_row("all", "", *cells)
    terminal = console()
    terminal.print(requests)
    terminal.print(costs)
    terminal.print("tokens/s: output tokens of one shard; it and hours count the time while requests were under way")
    if chosen:
        terminal.print(f"prices from the command line, for all requests: {chosen}")
        return
    for teacher in sorted({name.partition("@")[0] for name, _ in found}):
        for line in _price_lines(history, teacher):
            terminal.print(line)


def _price_lines(history: PriceHistory, teacher: str) -> list[str]:
    changes: dict[Prices, str] = {}
    for record in history.records(teacher):
        changes.setdefault(record.prices, record.day)
    if not changes:
        return [f"no prices of {teacher} are stored: its cost is unknown; give {PRICE_OPTIONS}"]
    return [f"prices of {teacher}, stored since {day}: {prices}" for prices, day in changes.items()]


def _requests(bill: Bill) -> list[str]:
    speed = bill.tokens_per_second
    return [
        f"{bill.requests:,}",
        f"{len(bill.reviews):,}",
        f"{bill.input_tokens:,}",
        f"{bill.output_tokens:,}",
        "-" if speed is None else f"{speed:,.0f}",
        ", ".join(f"{count:,} {reason}" for reason, count in bill.failures.most_common()) or "none",
    ]


def _costs(bill: Bill) -> list[str]:
    reviews = len(bill.reviews)
    known = bill.unpriced < bill.requests
    return [
        f"{bill.seconds / 3600:,.2f}",
        f"{bill.device_seconds / 3600:,.2f}",
        f"{(bill.input_tokens + bill.output_tokens) / reviews:,.0f}" if reviews else "-",
        amount(bill.cost) if known else "-",
        amount(bill.cost / reviews * 1000) if known and reviews and not bill.unpriced else "-",
    ]


def print_estimate(estimate: Estimate, prices: Prices | None, fastest_seconds: float | None = None) -> None:
    """Prints the estimated tokens, time and cost of a job.

    Args:
      estimate: estimate of the job.
      prices: prices of tokens and accelerators; None if they are unknown.
      fastest_seconds: duration if the engine is not slowed down by many requests at once. Then the estimate comes from
        so few answers that it is only an upper limit.
    """
    table = Table("prompt", title="Estimate for the missing generations")
    for name in ("requests", "input tokens", "output tokens"):
        table.add_column(name, justify="right")
    table.add_column("length of answers from")
    for prompt in estimate.prompts:
        source = "this store's answers" if prompt.measured else "the prompt's file"
        counts = (f"{prompt.requests:,}", f"{prompt.input_tokens:,.0f}", f"{prompt.output_tokens:,.0f}")
        table.add_row(prompt.prompt.name, *counts, source)
    terminal = console()
    terminal.print(table)
    terminal.print(f"input tokens: counted on a sample, by {estimate.counted_by}")
    if estimate.too_long:
        terminal.print(f"{estimate.too_long:,} requests are about too long reviews: they will fail without a cost")
    accelerators = ""
    if estimate.seconds is None:
        terminal.print("time: unknown; set --tokens-per-second, or generate some first (--limit 100) and try again")
        accelerators = " and the accelerators' time" if prices and prices.device_hour else ""
    else:
        hours, devices = estimate.seconds / 3600, estimate.device_seconds / 3600
        terminal.print(f"time: {hours:,.2f} hours on one shard, {devices:,.2f} GPU-hours")
        if fastest_seconds is not None:
            terminal.print(
                f"  that is at the speed of {estimate.speed_from} answers; with all requests in flight it may be "
                f"down to {duration(fastest_seconds)} (--limit 100 measures it)"
            )
    if prices is None:
        terminal.print(f"cost: unknown; give {PRICE_OPTIONS}")
    else:
        terminal.print(f"cost: {amount(estimate.cost(prices))}{accelerators} ({prices})")
