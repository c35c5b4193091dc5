"""How much device memory a compiled step takes, and the error where that is more than the device has."""

from __future__ import annotations

from dataclasses import dataclass

import jax

from fsa_base.errors import SettingError

_MEND = (
    "lower BATCH_SIZE, cut batches into slices (--gin.trainer.Trainer.num_microbatches=2), turn on remat in the "
    "model's configuration, or split parameters over more devices (PjitPartitioner.num_partitions)"
)


@dataclass(frozen=True)
class StepMemory:
    """Bytes on each device while a step runs.

    Attributes:
      arguments: train state and batch.
      temporary: activations, gradients and whatever else lives within the step, and metrics.
    """

    arguments: int
    temporary: int

    def __str__(self) -> str:
        return f"{_gib(self.arguments + self.temporary)} a device ({_gib(self.arguments)} state and batch)"


def of_step(compiled: jax.stages.Compiled) -> StepMemory | None:
    """Returns the needs of a compiled step; None where the backend does not tell."""
    found = compiled.memory_analysis()
    if found is None:
        return None
    # Donated arguments are where outputs are written; those take no room of their own.
    outputs = found.output_size_in_bytes - found.alias_size_in_bytes
    return StepMemory(found.argument_size_in_bytes, found.temp_size_in_bytes + max(outputs, 0))


def limit() -> int | None:
    """Returns the bytes that JAX may use on a device of this process; None where the device does not tell (CPUs)."""
    statistics = jax.local_devices()[0].memory_stats()
    return (statistics or {}).get("bytes_limit")


def require(needs: StepMemory | None, available: int | None) -> None:
    """Checks that a step fits, before a run takes its first one.

    Args:
      needs: of the step.
      available: bytes on a device; None for not known.

    Raises:
      SettingError: it does not.
    """
    if needs is not None and available is not None and needs.arguments + needs.temporary > available:
        raise SettingError(
            "BATCH_SIZE",
            expected=f"a train step within the {_gib(available)} of a device",
            found=str(needs),
            fix=_MEND,
        )


def error_of(error: BaseException) -> SettingError | None:
    """Returns the error for the user where ``error`` says that a device's memory was not enough, else None."""
    message = str(error)
    if not isinstance(error, jax.errors.JaxRuntimeError) or "RESOURCE_EXHAUSTED" not in message:
        return None
    return SettingError(
        "BATCH_SIZE", expected="a step that fits into device memory", found=message.splitlines()[0], fix=_MEND
    )


def _gib(size: int) -> str:
    return f"{size / 2**30:.3g} GiB"
