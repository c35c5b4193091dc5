"""The devices that JAX uses, and JAX's warnings about accelerators that it does not use."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass

from fsa_base import extras
from fsa_base.errors import SettingError


def install() -> str:
    """Returns what a user can do if JAX does not use an accelerator."""
    return (
        f"{extras.install('cuda')} for NVIDIA GPUs (nvidia-smi shows whether their driver works), "
        f"{extras.install('tpu')} for TPUs, or JAX_PLATFORMS=cpu to use the CPU"
    )


@dataclass(frozen=True)
class Devices:
    """The devices that JAX found.

    Attributes:
      count: number of devices of all processes.
      kind: names of the device models, as JAX gives them.
      platform: ``cpu``, ``gpu`` or ``tpu``.
      warnings: JAX's warnings about accelerators that exist but are not used.
    """

    count: int
    kind: str
    platform: str
    warnings: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.count} x {self.kind} ({self.platform})"


class _Collector(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        cause = record.exc_info[1] if record.exc_info else None
        self.messages.append(record.getMessage() + (f": {cause}" if cause else ""))


def find() -> Devices:
    """Returns the devices. Starts JAX's backends if needed, because JAX gives its warnings only then.

    Raises:
      SettingError: there is no device that JAX can use.
    """
    import jax

    logger, collector = logging.getLogger("jax._src.xla_bridge"), _Collector()
    propagate, logger.propagate = logger.propagate, False
    logger.addHandler(collector)
    try:
        devices = jax.devices()
    # JAX raises AssertionError if it does not have the platform in JAX_PLATFORMS.
    except (RuntimeError, AssertionError) as error:
        platforms = os.environ.get("JAX_PLATFORMS")
        raise SettingError(
            f"JAX_PLATFORMS={platforms}" if platforms else "JAX",
            expected="a device that JAX can use",
            found=str(error) or "; ".join(collector.messages) or "no such platform in this installation of JAX",
            fix=install(),
        ) from error
    finally:
        logger.removeHandler(collector)
        logger.propagate = propagate
    kinds = sorted({device.device_kind for device in devices})
    return Devices(len(devices), ", ".join(kinds), jax.default_backend(), tuple(collector.messages))
