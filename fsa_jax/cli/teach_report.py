"""``fsa teach-report``: what the generations of a store took."""

from __future__ import annotations

from pathlib import Path


def command(store: Path, price_input: float = 0.0, price_output: float = 0.0, price_device_hour: float = 0.0) -> None:
    """Prints tokens, speed, accelerator hours, cost and failures by teacher and prompt, of everything ever asked.

    Args:
      store: folder of generations, also one that a job is writing.
      price_input: price of a million input tokens.
      price_output: price of a million output tokens.
      price_device_hour: price of an accelerator for an hour.
    """
    from fsa_jax.teacher.cost import Prices
    from fsa_jax.teacher.cost_report import print_report

    print_report(store, Prices(price_input, price_output, price_device_hour))
