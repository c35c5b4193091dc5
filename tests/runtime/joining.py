"""One of several processes that find each other by what the environment says: ``join``, or ``stop MODEL_DIR``.

``join`` prints number and index. ``stop`` trains until an action on metrics of decoded text stops it, and prints the
last step.
"""

from __future__ import annotations

import json
import os
import sys

import jax

from t5x.distributed import processes


def _stop(model_dir: str) -> int:
    import tiny_run

    from t5x import actions

    return tiny_run.run(
        model_dir,  # type: ignore[arg-type]
        400,
        infer_eval_dataset_cfg=tiny_run.dataset(split="validation", pack=False, shuffle=False),
        # Never improves by so much: it stops at the second evaluation.
        actions={"INFER_EVAL": [actions.EarlyStoppingAction(("tiny_noisy", "first_token"), "max", 1, atol=1000.0)]},
    )[0]


def main() -> None:
    # JAX sets it where a machine has no TPU chips, and then asks no metadata server.
    os.environ.pop("TPU_SKIP_MDS_QUERY", None)
    address = os.environ.get("ADDRESS")
    if address:
        processes.initialize(True, address, 2, int(os.environ["INDEX"]), 60)
    else:
        processes.initialize(False, None, None, None, 60)
    if sys.argv[1] == "join":
        print(json.dumps([jax.process_count(), jax.process_index(), jax.device_count()]))
    else:
        print(json.dumps(_stop(sys.argv[2])))
    if hasattr(processes, "leave"):
        processes.leave()


if __name__ == "__main__":
    main()
