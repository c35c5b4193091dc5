"""Losses and gradients of every fast path against the plain network in float32, on real packed rows.

In float32 a fast path must agree with the plain network but for rounding. In bfloat16 its gradients must be about as
near to those of float32 as the plain network's are.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.kit.rows import Slice
from benchmarks.kit.sizes import LAYERS, T5_COMMON, T5_FIELDS
from benchmarks.steps.jax_step import model_of
from benchmarks.steps.variants import PLAIN, SWITCHES, applies, everything
from fsa_base.networks.t5 import network

TOLERANCE = {"loss": 1e-5, "gradients": 1e-4}
"""Relative differences in float32. A GPU adds in another order each time, so gradients have more room than on a CPU."""
BFLOAT16_SHARE = 1.5
"""How much farther from float32 than the plain network's bfloat16 a fast path may be."""
ROWS = 4


class Found(NamedTuple):
    """Loss, and gradients as one vector per parameter."""

    loss: float
    gradients: dict[str, np.ndarray]


def differentiate(run: Slice, dtype: str, fields: Mapping[str, Any], batch: Mapping[str, jax.Array]) -> Found:
    """Loss and gradients without dropout, from weights that the seed decides."""
    size = run.size
    settings = {**T5_COMMON, **T5_FIELDS[size.model], **dict.fromkeys(LAYERS, size.layers), "dtype": dtype, **fields}
    model = model_of(settings, network)
    variables = model.get_initial_variables(jax.random.key(0), dict.fromkeys(batch, (1, 1)))
    # In float32 products are not rounded to TF32.
    with jax.default_matmul_precision("highest" if dtype == "float32" else "default"):
        step = jax.jit(jax.value_and_grad(lambda params: model.loss_fn(params, batch, None)[0]))
        loss, gradients = step(variables["params"])
    leaves = jax.tree_util.tree_leaves_with_path(gradients)
    names = (jax.tree_util.keystr(path, simple=True, separator="/") for path, _ in leaves)
    vectors = (np.asarray(leaf, np.float32).ravel() for _, leaf in leaves)
    return Found(float(loss), dict(zip(names, vectors, strict=True)))


def difference(found: Found, reference: Found) -> dict[str, Any]:
    """Relative differences: of the loss, of all gradients together, and of the parameter that differs most."""
    by_name = {
        name: _norm([found.gradients[name] - vector]) / (_norm([vector]) or 1.0)
        for name, vector in reference.gradients.items()
    }
    worst = max(by_name, key=lambda name: by_name[name])
    differences = [found.gradients[name] - vector for name, vector in reference.gradients.items()]
    return {
        "loss": found.loss,
        "loss_difference": abs(found.loss / reference.loss - 1),
        "gradient_difference": _norm(differences) / _norm(list(reference.gradients.values())),
        "worst_parameter": worst,
        "worst_difference": by_name[worst],
    }


def _norm(vectors: list[np.ndarray]) -> float:
    return math.sqrt(sum(float(np.vdot(vector, vector)) for vector in vectors))


def main() -> None:
    """Writes the rows of the slice."""
    run = Slice.from_command_line(__doc__)
    packing = run.size.packings[0]
    features = np.load(run.data / packing.data / f"{packing.packing}.npz")
    batch = {name: jnp.asarray(features[name][:ROWS]) for name in features.files}
    found: dict[str, Found] = {}

    def against_plain(dtype: str, fields: Mapping[str, Any]) -> dict[str, Any]:
        this = differentiate(run, dtype, fields, batch)
        if "plain" not in found:
            found["plain"] = this
        if fields == PLAIN:
            found[dtype] = this
        measured = difference(this, found["plain"])
        loss, gradients = measured["loss_difference"], measured["gradient_difference"]
        if dtype == "float32":
            ok = loss <= TOLERANCE["loss"] and gradients <= TOLERANCE["gradients"]
        else:
            ok = gradients <= BFLOAT16_SHARE * difference(found[dtype], found["plain"])["gradient_difference"]
        return measured | {"dtype": dtype, "fields": dict(fields), "ok": ok and math.isfinite(measured["loss"])}

    for dtype in ("float32", "bfloat16"):
        device = jax.default_backend()
        forms = {"plain": PLAIN, "all": everything(dtype, device)}
        forms |= {name: {**PLAIN, **fields} for name, fields in SWITCHES.items()}
        for name, fields in forms.items():
            if applies(name, dtype, device):
                run.measure(f"{name}, {dtype}", lambda dtype=dtype, fields=fields: against_plain(dtype, fields))


if __name__ == "__main__":
    main()
