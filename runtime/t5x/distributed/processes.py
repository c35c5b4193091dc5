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
"""Longer than the operating system takes to notice that a machine is gone (t5x/distributed/peers.py)."""
_HEARTBEAT_SECONDS = 600
"""After which JAX aborts a run, with a stack trace, one of whose processes is silent: starved, or stopped; those that
end are noticed by t5x/distributed/peers.py."""
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
    """What an environment that starts several processes says of this one.

    Attributes:
      name: the environment, for messages.
      count: of processes.
      index: of this one.
      address: gives HOST:PORT of process 0.
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
    """Joins this process to a run of several, where the command line or the environment says that there are some.

    Args:
      multiprocess_gpu: there must be several; on CPU devices it works as well.
      coordinator_address: host:port of process 0; by what started the processes if None (a TPU pod, Slurm, Open MPI).
      process_count: number of processes; likewise. 1 is a process on its own.
      process_index: this one's; likewise.
      initialization_timeout: seconds to wait for the others, five minutes if None.

    Raises:
      SettingError: only some of the flags are given, or the others did not come.
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
    """Returns what the environment says of several processes, None where this one is alone.

    It is asked as ``jax.distributed.initialize`` does, which has no way to say how many there are before it waits for
    them.

    Raises:
      SettingError: what the environment says makes no sense.
    """
    from jax._src import clusters

    for kind in clusters.ClusterEnv._cluster_types:
        if kind.opt_in_only_method or (kind.__name__ == "K8sCluster" and "JOB_COMPLETION_INDEX" not in os.environ):
            continue  # A pod of Kubernetes is alone unless it belongs to an indexed job.
        name = _CLUSTERS.get(kind.__name__, kind.__name__)
        if not _of_cluster(name, kind.is_env_present):
            continue
        count: int = _of_cluster(name, kind.get_process_count)
        if kind.name == "slurm":
            # In a shell of salloc, SLURM_NTASKS is the allocation's; this step may have one task all the same.
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
            expected="an environment that says how many processes there are, and where process 0 is",
            found=f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'no reason given'}",
            fix="--process_count=1 for a process on its own; --coordinator_address, --process_count and "
            "--process_index to say it yourself",
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
            expected=f"{count} processes that reach one another",
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
            fix="end what holds it, such as an earlier run, or give every process the same other port (where Slurm, "
            "Open MPI or a TPU pod names the address: JAX_COORDINATOR_PORT)",
        ) from error


def is_joined() -> bool:
    """Returns whether this process has joined others (and not left them)."""
    return _peers is not None


def end_others(error: BaseException, said: str) -> None:
    """Ends the other processes of the run with what this one says of its error.

    Where the error is but the network's word for another process's end, this one is ended instead, by that one's
    error.
    """
    if _peers is None:
        return
    if _is_of_network(error):
        threading.Event().wait(_VERDICT_SECONDS)  # peers.Peers.end comes between.
    _peers.tell(said)


def leave() -> None:
    """Waits for the others at the regular end of a run of several processes, and leaves it with them."""
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


def broadcast_texts(texts: Sequence[str]) -> list[str]:
    """Returns process 0's ``texts`` on every process."""
    if jax.process_count() == 1:
        return list(texts)
    from jax.experimental import multihost_utils

    data = json.dumps(list(texts)).encode()
    size = broadcast(len(data))
    data = data.ljust(size)[:size]  # All give arrays of one shape; only process 0's counts.
    return json.loads(bytes(multihost_utils.broadcast_one_to_all(np.frombuffer(data, np.uint8)).tolist()))


def maximum(value: int) -> int:
    """Returns the largest ``value`` (less than 2**31) of all processes, on each of them; a collective."""
    if jax.process_count() == 1:
        return value
    from jax.experimental import multihost_utils

    return int(np.max(multihost_utils.process_allgather(np.int32(value))))


def any_process(flag: bool) -> bool:
    """Returns whether ``flag`` is set on any process, the same answer everywhere; a collective, like a barrier."""
    if jax.process_count() == 1:
        return flag
    from jax.experimental import multihost_utils

    return bool(np.any(multihost_utils.process_allgather(np.asarray(flag))))
