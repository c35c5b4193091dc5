"""``fsa teach-report``: shows the cost of the generations in a store."""

from __future__ import annotations

from pathlib import Path


def command(store: Path, price_input: float = 0.0, price_output: float = 0.0, price_device_hour: float = 0.0) -> None:
    """Prints tokens, speed, accelerator hours, cost and failures of all requests ever sent, by teacher and prompt.

    Args:
      store: folder of generations; a job may be writing it.
      price_input: price of a million input tokens.
      price_output: price of a million output tokens.
      price_device_hour: price of an accelerator for an hour.

    Example:
      fsa teach-report generations --price-input 0.15 --price-output 0.6
    """
    from fsa_jax.teacher.cost import Prices
    from fsa_jax.teacher.cost_report import print_report

    print_report(store, Prices(price_input, price_output, price_device_hour))
