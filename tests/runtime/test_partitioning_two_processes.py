"""Two processes whose devices share one model axis train as one process does.

Each process on its own data, through the command line, is test_distributed.py.
"""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
from test_partitioning import partitioner_of, train

WORKER = Path(__file__).parent / "two_processes.py"


def test_losses_are_those_of_one_process():
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        port = str(probe.getsockname()[1])
    environment = os.environ | {"XLA_FLAGS": "--xla_force_host_platform_device_count=2", "JAX_PLATFORMS": "cpu"}
    workers = [
        subprocess.Popen(
            [sys.executable, str(WORKER), port, str(index), "4"],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for index in range(2)
    ]
    finished = [worker.communicate(timeout=300) for worker in workers]
    assert [worker.returncode for worker in workers] == [0, 0], finished
    results = [json.loads(out.splitlines()[-1]) for out, _ in finished]
    expected, _ = train(partitioner_of(jax.devices()[:1], 1))
    for result in results:
        assert result["devices"] == 4 and result["shards"] == [[16, 6]]
        np.testing.assert_allclose(result["losses"], expected, rtol=1e-5)
