"""Several processes, one run: start, barriers, and values that must be the same everywhere."""

from __future__ import annotations

import dataclasses
import functools
import json
import os
import threading
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from fsa_base.errors import SettingError
from t5x.distributed import peers

_DEFAULT_TIMEOUT = 300
_VERDICT_SECONDS = 35.0
"""Longer than the operating system needs to detect that a machine is gone (t5x/distributed/peers.py)."""
_HEARTBEAT_SECONDS = 600
"""If a process does not respond for this time, for example because it is suspended, JAX aborts the run with a stack
trace. Processes that end are detected by t5x/distributed/peers.py."""
_NETWORK_WORDS = ("Gloo", "NCCL", "coordination", "DEADLINE_EXCEEDED", "UNAVAILABLE", "onnection reset", "barrier")
_CLUSTERS = {
    "SlurmCluster": "Slurm",
    "OmpiCluster": "Open MPI",
    "GkeTpuCluster": "TPU pod (GKE)",
    "GceTpuCluster": "TPU pod",
    "K8sCluster": "Kubernetes",
}
_peers: peers.Peers | None = None


@dataclasses.dataclass(frozen=True)
class Cluster:
    """What the environment (such as Slurm) that started several processes tells this process.

    Attributes:
      name: Name of the environment, for messages.
      count: Number of processes.
      index: Index of this process.
      address: Returns HOST:PORT of process 0.
    """

    name: str
    count: int
    index: int
    address: Callable[[], str]


def initialize(
    multiprocess_gpu: bool,
    coordinator_address: str | None,
    process_count: int | None,
    process_index: int | None,
    initialization_timeout: int | None = None,
) -> None:
    """Connects this process to the others of its run, if the command line or the environment defines several.

    Args:
      multiprocess_gpu: Require several processes; also works on CPU devices.
      coordinator_address: HOST:PORT of process 0. If None, from the environment (a TPU pod, Slurm, Open MPI).
      process_count: Number of processes. If None, from the environment. 1 for a single process.
      process_index: Index of this process. If None, from the environment.
      initialization_timeout: Seconds to wait for the other processes. If None, five minutes.

    Raises:
      SettingError: Only some of the flags are given, or another process did not connect.
    """
    if process_count == 1:
        return
    timeout = _DEFAULT_TIMEOUT if initialization_timeout is None else initialization_timeout
    given = {
        "--coordinator_address": coordinator_address,
        "--process_count": process_count,
        "--process_index": process_index,
    }
    missing = [name for name, value in given.items() if value is None]
    cluster = find_cluster(timeout) if missing else None
    if cluster is not None:
        coordinator_address = coordinator_address or _of_cluster(cluster.name, cluster.address)
        process_count = cluster.count if process_count is None else process_count
        process_index = cluster.index if process_index is None else process_index
    elif not multiprocess_gpu and len(missing) == len(given):
        return
    if coordinator_address is None or process_count is None or process_index is None:
        raise SettingError(
            "command line",
            expected="--coordinator_address, --process_count and --process_index together",
            found="no " + ", no ".join(missing),
            fix="give all three to every process, for example --coordinator_address=localhost:9999 "
            "--process_count=2 --process_index=0",
        )
    _join(coordinator_address, process_count, process_index, timeout)


def find_cluster(timeout: int) -> Cluster | None:
    """Returns what the environment defines about several processes; None if this process is the only one.

    This does the same as ``jax.distributed.initialize``, which cannot tell the number of processes before it waits for
    them.

    Raises:
      SettingError: The environment is inconsistent.
    """
    from jax._src import clusters

    for kind in clusters.ClusterEnv._cluster_types:
        if kind.opt_in_only_method or (kind.__name__ == "K8sCluster" and "JOB_COMPLETION_INDEX" not in os.environ):
            continue  # A Kubernetes pod is a single process unless it belongs to an indexed job.
        name = _CLUSTERS.get(kind.__name__, kind.__name__)
        if not _of_cluster(name, kind.is_env_present):
            continue
        count: int = _of_cluster(name, kind.get_process_count)
        if kind.name == "slurm":
            # In a shell of salloc, SLURM_NTASKS is that of the allocation, while this step may have only one task.
            count = _of_cluster(name, lambda found=count: int(os.environ.get("SLURM_STEP_NUM_TASKS", found)))
        if count <= 1:
            return None
        port = os.environ.get("JAX_COORDINATOR_PORT")
        address = functools.partial(kind.get_coordinator_address, timeout, port)
        return Cluster(name, count, _of_cluster(name, kind.get_process_id), address)
    return None


def _of_cluster(name: str, ask: Callable[[], Any]) -> Any:
    try:
        return ask()
    except (ValueError, KeyError, RuntimeError, OSError, AttributeError) as error:
        raise SettingError(
            name,
            expected="an environment that defines the number of processes and the address of process 0",
            found=f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'no reason given'}",
            fix="--process_count=1 for a single process; otherwise set --coordinator_address, --process_count and "
            "--process_index",
        ) from error


def _join(address: str, count: int, index: int, timeout: int) -> None:
    global _peers
    host, _, port = address.rpartition(":")
    host = host.strip("[]")
    settings: dict[str, Any] = {"initialization_timeout": timeout, "heartbeat_timeout_seconds": _HEARTBEAT_SECONDS}
    try:
        if not 0 <= index < count:
            raise ValueError(f"the index {index} of {count} processes")
        if index == 0:
            hub = _hub(address, count, int(port))
            hub.wait_for_all(timeout)
            _peers = hub
            jax.distributed.initialize(hub.service, count, 0, coordinator_bind_address=hub.service, **settings)
        else:
            member = peers.Member(index, count, host, int(port), timeout)
            _peers = member
            relay = peers.Relay(host, int(port), functools.partial(member.lost, 0))
            jax.distributed.initialize(relay.address, count, index, **settings)
    except (RuntimeError, ValueError, OSError) as error:
        raise SettingError(
            f"--coordinator_address={address}",
            expected=f"{count} processes that can connect to one another",
            found=str(error).splitlines()[0],
            fix="start every process with the same address and its own --process_index, 0 first",
        ) from error


def _hub(address: str, count: int, port: int) -> peers.Hub:
    try:
        return peers.Hub(count, port)
    except (OSError, OverflowError) as error:
        raise SettingError(
            f"--coordinator_address={address}",
            expected="a port of this machine that is free",
            found=str(error),
            fix="stop the program that uses it, such as an earlier run, or give every process the same other port "
            "(with Slurm, Open MPI or a TPU pod: set JAX_COORDINATOR_PORT)",
        ) from error


def is_joined() -> bool:
    """Returns whether this process is connected to other processes."""
    return _peers is not None


def end_others(error: BaseException, message: str) -> None:
    """Ends the other processes of the run; they print ``message``.

    If the error only means that the connection to another process failed, this process waits until it is ended by the
    error of that process.
    """
    if _peers is None:
        return
    if _is_of_network(error):
        threading.Event().wait(_VERDICT_SECONDS)  # peers.Peers.end usually ends this process before.
    _peers.tell(message)


def leave() -> None:
    """Waits until all processes have reached the regular end of the run, and disconnects."""
    global _peers
    if _peers is None:
        return
    _peers.leave()
    jax.distributed.shutdown()
    _peers.left()
    _peers = None


def _is_of_network(error: BaseException) -> bool:
    link: BaseException | None = error
    while link is not None:
        if any(word in str(link) for word in _NETWORK_WORDS):
            return True
        link = link.__cause__ or link.__context__
    return False


def barrier(name: str) -> None:
    """Waits until every process has called this."""
    if jax.process_count() > 1:
        from jax.experimental import multihost_utils

        multihost_utils.sync_global_devices(name)


def broadcast(value: int) -> int:
    """Returns the ``value`` (less than 2**31) of process 0 on every process."""
    if jax.process_count() == 1:
        return value
    from jax.experimental import multihost_utils

    return int(multihost_utils.broadcast_one_to_all(np.int32(value)))


def broadcast_texts(texts: Sequence[str]) -> list[str]:
    """Returns the ``texts`` of process 0 on every process."""
    if jax.process_count() == 1:
        return list(texts)
    from jax.experimental import multihost_utils

    data = json.dumps(list(texts)).encode()
    size = broadcast(len(data))
    data = data.ljust(size)[:size]  # All processes must pass arrays of the same shape; only that of process 0 is used.
    return json.loads(bytes(multihost_utils.broadcast_one_to_all(np.frombuffer(data, np.uint8)).tolist()))


def maximum(value: int) -> int:
    """Returns the largest ``value`` (less than 2**31) of all processes. A collective: every process must call this."""
    if jax.process_count() == 1:
        return value
    from jax.experimental import multihost_utils

    return int(np.max(multihost_utils.process_allgather(np.int32(value))))


def any_process(flag: bool) -> bool:
    """Returns whether ``flag`` is set on any process. A collective: every process must call this."""
    if jax.process_count() == 1:
        return flag
    from jax.experimental import multihost_utils

    return bool(np.any(multihost_utils.process_allgather(np.asarray(flag))))
