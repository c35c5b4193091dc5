"""Processes of one run find each other, decide and evaluate alike, and end together. Training: test_distributed.py."""

from __future__ import annotations

import contextlib
import http.server
import json
import shutil
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pair
import pytest
import tiny_run

from fsa_base.errors import SettingError
from t5x.distributed import peers, processes

ALONE = {
    "a batch script of Slurm": {"SLURM_JOB_ID": "1", "SLURM_NTASKS": "4", "SLURM_PROCID": "0", "SLURM_LOCALID": "0"},
    "srun -n 1": pair.slurm(0, 1, 1234),
    "a shell of salloc -n 4": pair.slurm(0, 4, 1234) | {"SLURM_STEP_NUM_TASKS": "1"},
    "mpirun -n 1": {
        "OMPI_MCA_orte_hnp_uri": "1531576320.0;tcp://10.96.0.1,10.148.0.1:34911",
        "OMPI_COMM_WORLD_SIZE": "1",
        "OMPI_COMM_WORLD_RANK": "0",
        "OMPI_COMM_WORLD_LOCAL_RANK": "0",
    },
    "a pod of Kubernetes": {"KUBERNETES_SERVICE_HOST": "10.0.0.1"},
}


@pytest.mark.parametrize("environment", ALONE.values(), ids=ALONE.keys())
def test_a_single_process_does_not_wait(environment, monkeypatch):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert processes.find_cluster(1) is None
    processes.initialize(False, None, None, None, 1)
    assert not processes.is_joined()


def test_several_processes_are_detected_from_the_environment(monkeypatch):
    for name, value in (ALONE["mpirun -n 1"] | {"OMPI_COMM_WORLD_SIZE": "3", "OMPI_COMM_WORLD_RANK": "2"}).items():
        monkeypatch.setenv(name, value)
    found = processes.find_cluster(1)
    assert found is not None and (found.name, found.count, found.index) == ("Open MPI", 3, 2)
    assert found.address().startswith("10.96.0.1:")
    monkeypatch.setenv("OMPI_COMM_WORLD_SIZE", "three")
    with pytest.raises(SettingError, match="Open MPI: expected an environment"):
        processes.find_cluster(1)


def test_errors_name_missing_and_foreign_processes():
    """JAX's client aborted the process with a C++ stack trace (so that on older code this ends pytest)."""
    with pytest.raises(SettingError, match="process 1, 2 did not connect within 1 s"):
        processes.initialize(True, f"localhost:{pair.free_port()}", 3, 0, 1)
    with pytest.raises(SettingError, match="found process 0 at localhost:"):
        processes.initialize(True, f"localhost:{pair.free_port()}", 2, 1, 1)
    port = pair.free_port()
    hub = peers.Hub(3, port)
    for index, count, refusal in (
        (1, 2, "process 0 waits for 3 processes, process 1 for 2"),
        (3, 3, "the index 3 of 3 processes"),
    ):
        with pytest.raises(SettingError, match=refusal):
            processes.initialize(True, f"localhost:{port}", count, index, 5)
    greeting = b'{"process": 1, "count": 3}\n'
    with socket.create_connection(("localhost", port)) as first, socket.create_connection(("localhost", port)) as noise:
        first.sendall(greeting)
        noise.sendall(b"{" + b"x" * 200_000)
        while not hub._members:
            time.sleep(0.01)
        with socket.create_connection(("localhost", port)) as second:
            second.sendall(greeting)
            answer = json.loads(second.makefile().readline())
        assert answer == {"refused": "two processes with the index 1"}


def test_a_port_in_use_is_an_error():
    with socket.create_server(("", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(
            SettingError, match=r"a port of this machine that is free, found .*\n.* the same other port"
        ):
            processes.initialize(True, f"localhost:{port}", 2, 0, 1)


def test_the_port_of_jax_s_service_is_chosen_when_all_are_connected():
    """It was chosen before five minutes of waiting, in which any process may take it."""
    port = pair.free_port()
    hub = peers.Hub(2, port)

    def join() -> None:
        member = peers.Member(1, 2, "localhost", port, 30)
        member.leave()
        member.left()

    with contextlib.ExitStack() as others:
        if hasattr(hub, "service"):
            others.enter_context(socket.create_server(("127.0.0.1", int(hub.service.rpartition(":")[2]))))
        member = threading.Thread(target=join, daemon=True)
        member.start()
        hub.wait_for_all(30)
        try:
            with socket.create_server(("127.0.0.1", int(hub.service.rpartition(":")[2]))):
                pass
        finally:
            hub.leave()
            hub.left()
            member.join(30)


HUB = """
import json, resource, socket, subprocess, sys
from t5x.distributed import peers
resource.setrlimit(resource.RLIMIT_NOFILE, (96, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
hub = peers.Hub(60, int(sys.argv[1]))
subprocess.Popen([sys.executable, "-c", sys.argv[2], sys.argv[1]])
hub.wait_for_all(60)
print("all are here")
"""
MEMBERS = """
import json, socket, sys
members = [socket.create_connection(("localhost", int(sys.argv[1]))) for _ in range(2 * 59)]
for index, member in enumerate(members[::2], 1):
    member.sendall(json.dumps({"process": index, "count": 60}).encode() + b"\\n")
while members[0].recv(100):
    pass
"""


def test_hundreds_of_processes_find_each_other_where_few_files_may_be_open():
    """Process 0 has four connections for each of the others; 1,024 open files are a usual limit."""
    command = [sys.executable, "-c", HUB, str(pair.free_port()), MEMBERS]
    found = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert found.stdout == "all are here\n", found.stderr


def test_a_connection_closed_by_the_client_is_not_a_loss_of_process_0():
    """JAX's client may drop one; that was taken for the end of process 0 where bytes of its were on their way."""
    lost: list[bool] = []
    accepted: list[socket.socket] = []

    def send_for_ever(connection: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection.sendall(bytes(4096))

    def accept(server: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                accepted.append(server.accept()[0])
                threading.Thread(target=send_for_ever, args=(accepted[-1],), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=accept, args=(server,), daemon=True).start()
        relay = peers.Relay("127.0.0.1", server.getsockname()[1], lambda: lost.append(True))
        host, _, port = relay.address.partition(":")
        for _ in range(50):
            with socket.create_connection((host, int(port))) as client:
                assert client.recv(1)  # Closed with bytes unread, so that the next ones are refused.
        time.sleep(0.5)
        assert not lost
        with socket.create_connection((host, int(port))) as client:
            assert client.recv(1)
            client.settimeout(60)
            accepted[-1].shutdown(socket.SHUT_RDWR)
            while client.recv(1 << 16):
                pass
        assert lost


class _Metadata(http.server.BaseHTTPRequestHandler):
    """Answers as the metadata server of a TPU VM does: the attributes of the instance, each as text."""

    attributes: dict[str, str]

    def do_GET(self) -> None:
        name = self.path.removeprefix("/computeMetadata/v1/instance/attributes/")
        known = self.headers["Metadata-Flavor"] == "Google" and name in self.attributes
        self.send_response(200 if known else 404)
        self.end_headers()
        self.wfile.write(self.attributes.get(name, "").encode())

    def log_message(self, *_: object) -> None:
        pass


@pytest.mark.parametrize("workers", [1, 2])
def test_workers_of_a_tpu_pod_find_each_other_by_its_metadata_server(workers):
    """A stand-in server for each worker, since each learns its own number from it."""
    port, servers, processes = pair.free_port(), [], []
    for index in range(workers):
        attributes = {
            "agent-worker-number": str(index),
            "worker-network-endpoints": ",".join(f"worker:{number}:127.0.0.1" for number in range(workers)),
            "tpu-env": "ACCELERATOR_TYPE: 'v4-16'\nNODE_ID: 'pod'\n",
        }
        handler = type("Handler", (_Metadata,), {"attributes": attributes})
        servers.append(http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler))
        threading.Thread(target=servers[-1].serve_forever, daemon=True).start()
        variables = {
            "GCE_METADATA_IP": f"127.0.0.1:{servers[-1].server_port}",
            "JAX_FORCE_TPU_INIT": "1",  # what a chip on the PCI bus does
            "JAX_PLATFORMS": "cpu",
            "JAX_COORDINATOR_PORT": str(port),
        }
        processes.append(tiny_run.command("joining", "join", variables=variables, stdout=subprocess.PIPE))
    outputs = [process.communicate(timeout=500) for process in processes]
    for server in servers:
        server.shutdown()
    assert all(process.returncode == 0 for process in processes), outputs
    found = [json.loads(output.splitlines()[-1]) for output, _ in outputs]
    assert found == [[workers, index, workers] for index in range(workers)], outputs


def test_a_metric_of_decoded_text_stops_all_processes_at_the_same_step(tmp_path):
    """Only process 0 computes it."""
    address = f"localhost:{pair.free_port()}"
    processes = [
        tiny_run.command(
            "joining",
            *("stop", str(tmp_path)),
            variables={"ADDRESS": address, "INDEX": str(index)},
            stdout=subprocess.PIPE,
        )
        for index in (0, 1)
    ]
    try:
        outputs = [process.communicate(timeout=500) for process in processes]
    finally:
        for process in processes:
            process.kill()
    steps = [json.loads(output.splitlines()[-1]) for output, _ in outputs]
    assert steps[0] == steps[1] <= 16, outputs


def test_an_error_in_the_data_of_one_process_ends_both_with_its_message(tmp_path):
    arguments = tiny_run.train_arguments(tmp_path, 1000, "--gin_file=tests/runtime/tiny_broken.gin")
    statuses, errors = pair.wait(pair.start("t5x.train", lambda index: arguments), seconds=500)
    assert statuses == [2, 2], errors
    expected = "reviews.jsonl:7: expected a text, found a number\n  to fix it: correct that line"
    assert f"process 1 of 2: {expected}" in errors[0] and f"t5x.train: {expected}" in errors[1]
    assert "Traceback" not in errors[0] + errors[1] and "Gloo" not in errors[0] + errors[1], errors


def test_two_processes_score_and_infer_unequal_odd_tasks_as_one_process_does(tmp_path):
    """13 and 37 examples in batches of 8."""
    tiny_run.run(tmp_path / "run", 2, period=2)

    def arguments(output: str) -> list[str]:
        return [
            "--gin_file=tests/runtime/tiny_t5.gin",
            "--gin_file=t5x/configs/runs/eval.gin",
            "--gin_file=tests/runtime/tiny_eval.gin",
            f"--gin.CHECKPOINT_PATH='{tmp_path / 'run' / 'checkpoint_2'}'",
            f"--gin.EVAL_OUTPUT_DIR='{tmp_path / output}'",
        ]

    statuses, errors = pair.wait([tiny_run.command("t5x.eval", *arguments("one"))])
    assert statuses == [0], errors
    statuses, errors = pair.wait(pair.start("t5x.eval", lambda index: arguments("two")), seconds=500)
    assert statuses == [0, 0], errors

    def rows(output: str, *where: str) -> dict[str, float]:
        (line,) = (tmp_path / output / Path(*where)).read_text().splitlines()
        return {name: value for name, value in json.loads(line).items() if not name.startswith("timing/seconds")}

    examples = {"tiny_thirteen": 13, "tiny_thirty_seven": 37, "tiny_unequal": 50}
    for name in examples:
        one, two = (rows(output, "training_eval", name, "metrics.jsonl") for output in ("one", "two"))
        for metric in ("loss", "accuracy", "cross_ent_loss"):
            assert two[metric] == pytest.approx(one[metric], rel=1e-5), (name, metric)
    for name in ("tiny_thirteen", "tiny_thirty_seven"):
        found = [rows(output, "inference_eval", f"{name}-metrics.jsonl") for output in ("one", "two")]
        assert found[0] == pytest.approx(found[1])
        predictions = [
            [json.loads(line)["prediction"] for line in file.read_text().splitlines()]
            for file in (tmp_path / output / "inference_eval" / f"{name}-000002.jsonl" for output in ("one", "two"))
        ]
        assert predictions[0] == predictions[1] and len(predictions[0]) == examples[name]
    assert np.isfinite(list(one.values())).all()

    def infer(output: str) -> list[str]:
        return [
            "--gin_file=tests/runtime/tiny_t5.gin",
            "--gin_file=t5x/configs/runs/infer.gin",
            "--gin.MIXTURE_OR_TASK_NAME='tiny_thirty_seven'",
            "--gin.TASK_FEATURE_LENGTHS={'inputs': 16, 'targets': 16}",
            "--gin.BATCH_SIZE=8",
            "--gin.infer.checkpoint_period=2",
            f"--gin.CHECKPOINT_PATH='{tmp_path / 'run' / 'checkpoint_2'}'",
            f"--gin.INFER_OUTPUT_DIR='{tmp_path / output}'",
        ]

    statuses, errors = pair.wait([tiny_run.command("t5x.infer", *infer("one"))])
    assert statuses == [0], errors
    # The second process sees an older checkpoint as its newest, as where a training goes on beside this.
    older = tmp_path / "view"
    shutil.copytree(tmp_path / "run" / "checkpoint_0", older / "checkpoint_0")
    view = [f"--gin.CHECKPOINT_PATH='{older / 'checkpoint_0'}'"]
    statuses, errors = pair.wait(
        pair.start("t5x.infer", lambda index: [*infer("two"), *(view if index else [])]), seconds=500
    )
    assert statuses == [0, 0], errors
    name = "tiny_thirty_seven-predict.jsonl-00000-of-00001"
    assert (tmp_path / "two" / name).read_bytes() == (tmp_path / "one" / name).read_bytes()
