"""Parallel commands: all run, an error stops the others, and no process is left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fsa_jax.benchmark.processes import Command, CommandFailed, Pool, last_step


def python(code: str, directory: Path, log: Path | None = None) -> Command:
    return Command((sys.executable, "-c", code), dict(os.environ), directory, log)


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    # A child that has ended but was not waited for (a zombie) counts as ended.
    status = Path(f"/proc/{pid}/stat")
    return not (status.exists() and status.read_text().rsplit(")", 1)[1].split()[0] == "Z")


def test_all_commands_run_with_at_most_so_many_at_a_time(tmp_path):
    code = "import pathlib, sys, time; p = pathlib.Path('{n}'); p.touch(); time.sleep(.3); p.unlink()"
    most = 0
    ended: list[int] = []

    def watch() -> None:
        nonlocal most
        most = max(most, len(list(tmp_path.glob("[0-9]"))))

    commands = [python(code.format(n=n), tmp_path) for n in range(5)]
    pool = Pool(workers=2)
    pool.run(commands, watch, lambda index, seconds: ended.append(index))
    assert sorted(ended) == [0, 1, 2, 3, 4]
    assert 1 <= most <= pool.workers <= 2


def test_commands_share_the_cores(tmp_path):
    code = "import os, pathlib; pathlib.Path('{n}').write_text(str(sorted(os.sched_getaffinity(0))))"
    pool = Pool(workers=2)
    pool.run([python(code.format(n=n), tmp_path) for n in range(2)])
    everything = os.sched_getaffinity(0)
    shares = [set(map(int, (tmp_path / str(n)).read_text().strip("[]").split(","))) for n in range(2)]
    assert all(share <= everything for share in shares)
    if pool.workers == 2:
        assert shares[0] | shares[1] == everything and not shares[0] & shares[1]
    pool.run([python(code.format(n=9), tmp_path)])
    assert (tmp_path / "9").read_text() == str(sorted(everything)), "a command alone has all of them"


def test_a_failure_shows_the_end_of_its_output_and_stops_the_others(tmp_path):
    sleeper = python(f"import os, time; open('{tmp_path}/pid', 'w').write(str(os.getpid())); time.sleep(60)", tmp_path)
    code = f"import pathlib, sys, time\nwhile not pathlib.Path('{tmp_path}/pid').exists(): time.sleep(.05)\n"
    failing = python(code + "print('what went wrong'); sys.exit(3)", tmp_path, tmp_path / "logs" / "x.log")
    workers = Pool(workers=2).workers
    commands = [sleeper, failing] if workers == 2 else [failing]
    if workers == 1:
        (tmp_path / "pid").write_text("0")
    with pytest.raises(CommandFailed, match=r"exit status 3(.|\n)*what went wrong"):
        Pool(workers=2).run(commands)
    if workers == 2:
        assert not alive(int((tmp_path / "pid").read_text()))


def test_an_interruption_ends_the_commands_in_order(tmp_path):
    code = """
import os, pathlib, signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: (pathlib.Path('saved').touch(), sys.exit(0)))
pathlib.Path('pid').write_text(str(os.getpid()))
time.sleep(60)
"""

    def watch() -> None:
        if (tmp_path / "pid").exists() and (tmp_path / "pid").read_text():
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Pool(1).run([python(code, tmp_path)], watch)
    assert (tmp_path / "saved").exists(), "a training can save its state"
    assert not alive(int((tmp_path / "pid").read_text()))


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells children that their parent has died")
def test_an_interruption_while_a_command_starts_leaves_nothing_behind(tmp_path, monkeypatch):
    started: list[int] = []

    class Interrupted(subprocess.Popen):
        def __init__(self, *arguments, **options) -> None:
            super().__init__(*arguments, **options)
            started.append(self.pid)
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(subprocess, "Popen", Interrupted)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            Pool(workers=1).run([python("import time; time.sleep(60)", tmp_path)])
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)
    assert len(started) == 1 and not alive(started[0])


def test_the_commands_of_a_killed_demo_end(tmp_path):
    code = f"""
import os, sys
from pathlib import Path
from fsa_jax.benchmark.processes import Command, Pool
child = "import os, time; open('pid', 'w').write(str(os.getpid())); time.sleep(60)"
Pool(1).run([Command((sys.executable, "-c", child), dict(os.environ), Path({str(tmp_path)!r}))])
"""
    parent = subprocess.Popen([sys.executable, "-c", code])
    pid = tmp_path / "pid"
    deadline = time.monotonic() + 60
    while not (pid.exists() and pid.read_text()) and time.monotonic() < deadline:
        time.sleep(0.05)
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    while alive(int(pid.read_text())) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not alive(int(pid.read_text()))


def test_incomplete_metrics_files_are_read_up_to_the_last_row(tmp_path):
    metrics = tmp_path / "metrics.jsonl"
    assert last_step(metrics) == 0
    metrics.write_text('{"step": 10, "loss": 2.0}\n{"step": 20, "loss": 1.0}\n{"step": 3')
    assert last_step(metrics) == 20


def test_a_command_is_shown_as_one_would_type_it(tmp_path):
    words = ("/usr/bin/python3", "-m", "t5x.train", "--gin.MODEL_DIR='a b'", "--gin.TRAIN_STEPS=3")
    shown = str(Command(words, {}, tmp_path))
    assert shown == "python -m t5x.train \"--gin.MODEL_DIR='a b'\" --gin.TRAIN_STEPS=3"
