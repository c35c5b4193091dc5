"""``fsa teach-report``: shows the cost of the generations in a store."""

from __future__ import annotations

from pathlib import Path


def command(
    store: Path,
    price_input: float | None = None,
    price_output: float | None = None,
    price_device_hour: float | None = None,
) -> None:
    """Prints tokens, speed, hours, cost and failures of all requests ever sent, by teacher and prompt.

    Without prices, every request has the price at which fsa teach sent it. With a price, all requests have the given
    prices, and those that are not given are 0.

    Args:
      store: folder of generations; a job may be writing it.
      price_input: price of a million input tokens.
      price_output: price of a million output tokens.
      price_device_hour: price of an accelerator for an hour.

    Example:
      fsa teach-report generations --price-input 0.15 --price-output 0.6
    """
    from fsa_jax.teacher.cost_report import print_report

    given = {"input": price_input, "output": price_output, "device_hour": price_device_hour}
    print_report(store, {name: price for name, price in given.items() if price is not None})
