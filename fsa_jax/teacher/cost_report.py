"""Tables of costs: the bill of a store, and the estimate for a job."""

from __future__ import annotations

from pathlib import Path

from rich.table import Table

from fsa_jax.common.terminal import console
from fsa_jax.teacher.cost import Bill, Prices, bills
from fsa_jax.teacher.estimate import Estimate
from fsa_jax.teacher.store.reader import StoreReader


def print_report(store: Path, prices: Prices) -> None:
    """Prints the requests, tokens, time and cost of everything in a store.

    Raises:
      MissingDataError: there is no store.
    """
    found = bills(StoreReader(store).attempts_by_shard())
    table = Table("teacher", "prompt", title=f"Cost of {store}")
    for name in ("requests", "input tokens", "output tokens", "tokens/s", "GPU-hours", "cost"):
        table.add_column(name, justify="right")
    table.add_column("failures")
    total = Bill()
    for (teacher, prompt), bill in sorted(found.items()):
        table.add_row(teacher, prompt, *_cells(bill, prices))
        total.add(bill)
    table.add_section()
    table.add_row("all", "", *_cells(total, prices))
    terminal = console()
    terminal.print(table)
    terminal.print("tokens/s: output tokens of one shard while requests were under way; cost without prices is 0")


def _cells(bill: Bill, prices: Prices) -> list[str]:
    speed = bill.tokens_per_second
    return [
        f"{bill.requests:,}",
        f"{bill.input_tokens:,}",
        f"{bill.output_tokens:,}",
        "-" if speed is None else f"{speed:,.0f}",
        f"{bill.device_seconds / 3600:,.2f}",
        f"{bill.cost(prices):,.2f}",
        ", ".join(f"{count:,} {reason}" for reason, count in bill.failures.most_common()) or "none",
    ]


def print_estimate(estimate: Estimate, prices: Prices, counted_by: str) -> None:
    """Prints the estimated tokens, time and cost of a job.

    Args:
      estimate: estimate of the job.
      prices: prices of tokens and accelerators.
      counted_by: name of the tokenizer that counted the input tokens of the sample.
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
    terminal.print(f"input tokens: counted by {counted_by} on a sample")
    if estimate.too_long:
        terminal.print(f"{estimate.too_long:,} requests are about too long reviews: they will fail without a cost")
    if estimate.seconds is None:
        terminal.print("time: unknown; set --tokens-per-second, or generate some first (--limit 100) and try again")
        if prices.device_hour:
            terminal.print(f"cost: {estimate.cost(prices):,.2f} and the accelerators' time")
            return
    else:
        hours, devices = estimate.seconds / 3600, estimate.device_seconds / 3600
        terminal.print(f"time: {hours:,.2f} hours on one shard, {devices:,.2f} GPU-hours")
    terminal.print(f"cost: {estimate.cost(prices):,.2f}")
