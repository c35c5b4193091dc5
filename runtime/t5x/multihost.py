"""Several processes, one run: start, barriers, and values that must be the same everywhere."""

from __future__ import annotations

import jax
import numpy as np

from fsa_jax.errors import SettingError

_DEFAULT_TIMEOUT = 300


def initialize(
    multiprocess_gpu: bool,
    coordinator_address: str | None,
    process_count: int | None,
    process_index: int | None,
    initialization_timeout: int | None = None,
) -> None:
    """Joins this process to a run of several, where the command line asks for one.

    Args:
      multiprocess_gpu: the flag that asks for it; on CPU devices it works as well.
      coordinator_address: host:port of process 0.
      process_count: number of processes.
      process_index: this one's.
      initialization_timeout: seconds to wait for the others, five minutes if None.

    Raises:
      SettingError: only some of the flags are given, or the others did not come.
    """
    given = {
        "--coordinator_address": coordinator_address,
        "--process_count": process_count,
        "--process_index": process_index,
    }
    if not multiprocess_gpu and all(value is None for value in given.values()):
        return
    missing = [name for name, value in given.items() if value is None]
    if missing:
        raise SettingError(
            "command line",
            expected="--coordinator_address, --process_count and --process_index together",
            found="no " + ", no ".join(missing),
            fix="give all three to every process, for example --coordinator_address=localhost:9999 "
            "--process_count=2 --process_index=0",
        )
    try:
        jax.distributed.initialize(
            coordinator_address,
            process_count,
            process_index,
            initialization_timeout=_DEFAULT_TIMEOUT if initialization_timeout is None else initialization_timeout,
        )
    except (RuntimeError, ValueError) as error:
        raise SettingError(
            f"--coordinator_address={coordinator_address}",
            expected=f"{process_count} processes that reach one another",
            found=str(error).splitlines()[0],
            fix="start every process with the same address and its own --process_index, 0 first",
        ) from error


def barrier(name: str) -> None:
    """Waits until every process is here."""
    if jax.process_count() > 1:
        from jax.experimental import multihost_utils

        multihost_utils.sync_global_devices(name)


def broadcast(value: int) -> int:
    """Returns process 0's ``value`` (less than 2**31) on every process."""
    if jax.process_count() == 1:
        return value
    from jax.experimental import multihost_utils

    return int(multihost_utils.broadcast_one_to_all(np.int32(value)))


def any_process(flag: bool) -> bool:
    """Returns whether ``flag`` is set on any process, the same answer everywhere; a collective, like a barrier."""
    if jax.process_count() == 1:
        return flag
    from jax.experimental import multihost_utils

    return bool(np.any(multihost_utils.process_allgather(np.asarray(flag))))
