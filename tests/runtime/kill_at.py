"""``python kill_at.py MOMENT ARGUMENTS``: ``t5x.train`` that kills itself with SIGKILL at a moment.

Moments: ``compiling``, ``writing N`` (while Orbax writes checkpoint N), ``in flight N`` (three steps after N, when
checkpoint N is not complete), ``committing N`` (complete, not yet renamed), ``committed N`` (renamed, old ones not yet
deleted).
"""

from __future__ import annotations

import os
import signal
import sys
import threading

from etils import epath

from t5x import checkpoints, train, trainer


def _die(*_, **__) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _before(owner, name: str, applies) -> None:
    original = getattr(owner, name)

    def wrapped(*args, **kwargs):
        if applies(*args):
            _die()
        return original(*args, **kwargs)

    setattr(owner, name, wrapped)


def _arm(moment: str, number: int) -> None:
    manager = checkpoints.CheckpointManager
    if moment == "compiling":
        original = trainer.Trainer.compile_train

        def compile_train(self, batch):
            threading.Timer(0.2, _die).start()
            return original(self, batch)

        trainer.Trainer.compile_train = compile_train
    elif moment in ("writing", "in flight"):
        original_write = manager._write
        if moment == "in flight":
            _before(trainer.Trainer, "train_step", lambda self, batch: int(self.train_state.step) == number + 3)

        def write(self, partial, *rest):
            if moment == "writing" and f"_{number}.tmp-" in partial.name:
                threading.Timer(0.02, _die).start()
            original_write(self, partial, *rest)
            if f"_{number}.tmp-" in partial.name:
                threading.Event().wait(10)

        manager._write = write
    elif moment == "committing":
        _before(epath.Path("/").__class__, "rename", lambda path, target: f"_{number}.tmp-" in path.name)
    elif moment == "committed":
        _before(manager, "prune", lambda self: checkpoints.checkpoint_steps(self.directory)[-1:] == [number])


if __name__ == "__main__":
    moment, _, number = sys.argv.pop(1).rpartition(" ")
    _arm(moment or number, int(number) if moment else 0)
    train.main()
