"""Losses and gradients of every fast path against the plain network in float32, on real packed rows.

In float32 a fast path must agree with the plain network but for rounding. In bfloat16 its gradients must be about as
near to those of float32 as the plain network's are.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import partial
from types import ModuleType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.kit.rows import Slice
from benchmarks.kit.sizes import LAYERS, LLAMA_FIELDS, T5_COMMON, T5_FIELDS
from benchmarks.steps import variants
from benchmarks.steps.jax_step import model_of
from fsa_base.networks.llama import network as llama
from fsa_base.networks.t5 import network as t5

TOLERANCE = {"loss": 1e-5, "gradients": 1e-4}
"""Relative differences in float32. A GPU adds in another order each time, so gradients have more room than on a CPU."""
BFLOAT16_SHARE = 1.5
"""How much farther from float32 than the plain network's bfloat16 a fast path may be."""


class Found(NamedTuple):
    """Loss, and gradients as one vector per parameter."""

    loss: float
    gradients: dict[str, np.ndarray]


class Network(NamedTuple):
    """What is compared: a network with few layers, and the rows that it reads."""

    module: ModuleType
    settings: Mapping[str, Any]
    batch: Mapping[str, jax.Array]


def networks(run: Slice) -> dict[str, Network]:
    """T5 with the first packing, and a decoder-only network; by the name of their package."""
    size = run.size
    packing = size.packings[0]
    of_t5 = {**T5_COMMON, **T5_FIELDS[size.model], **dict.fromkeys(LAYERS, size.layers)}
    of_llama = {"network": "llama", **LLAMA_FIELDS[size.model], "num_layers": size.layers}
    return {
        "t5": Network(t5, of_t5, batch(run, packing.data, packing.packing)),
        "llama": Network(llama, of_llama, batch(run, "decoder", "best_fit")),
    }


def batch(run: Slice, data: str, packing: str) -> dict[str, jax.Array]:
    """The first packed rows of the kit's text."""
    features = np.load(run.data / data / f"{packing}.npz")
    return {name: jnp.asarray(features[name][: run.size.compared_rows]) for name in features.files}


def random_weights(network: Network) -> Any:
    """Parameters that the seed decides; all forms of a network have the same."""
    model = model_of({**network.settings, **variants.PLAIN}, network.module)
    shapes = dict.fromkeys(network.batch, (1, 1))
    return jax.jit(lambda key: model.get_initial_variables(key, shapes)["params"])(jax.random.PRNGKey(0))


def differentiate(network: Network, weights: Any, dtype: str, fields: Mapping[str, Any]) -> Found:
    """Loss and gradients without dropout."""
    model = model_of({**network.settings, "dtype": dtype, **fields}, network.module)
    # In float32 products are not rounded to TF32.
    with jax.default_matmul_precision("highest" if dtype == "float32" else "default"):
        # The batch is an argument: of constants, XLA would compute arrays as large as the logits while it compiles.
        step = jax.jit(jax.value_and_grad(lambda params, batch: model.loss_fn(params, batch, None)[0]))
        loss, gradients = step(weights, network.batch)
    leaves = jax.tree_util.tree_leaves_with_path(gradients)
    names = (jax.tree_util.keystr(path, simple=True, separator="/") for path, _ in leaves)
    vectors = (np.asarray(leaf, np.float32).ravel() for _, leaf in leaves)
    return Found(float(loss), dict(zip(names, vectors, strict=True)))


def difference(found: Found, reference: Found) -> dict[str, Any]:
    """Relative differences: of the loss, of all gradients together, and of the parameter that differs most."""
    differences = {name: found.gradients[name] - vector for name, vector in reference.gradients.items()}
    by_name = {
        name: _norm([differences[name]]) / (_norm([vector]) or 1.0) for name, vector in reference.gradients.items()
    }
    worst = max(by_name, key=lambda name: by_name[name])
    return {
        "loss": found.loss,
        "loss_difference": abs(found.loss / reference.loss - 1),
        "gradient_difference": _norm(list(differences.values())) / _norm(list(reference.gradients.values())),
        "worst_parameter": worst,
        "worst_difference": by_name[worst],
    }


def _norm(vectors: list[np.ndarray]) -> float:
    return math.sqrt(sum(float(np.vdot(vector, vector)) for vector in vectors))


def compare(run: Slice, name: str, network: Network) -> None:
    """Writes a row for every form of a network, the plain one in float32 first."""
    plain: dict[str, Found] = {}
    weights = random_weights(network)

    def against_plain(dtype: str, fields: Mapping[str, Any]) -> dict[str, Any]:
        found = differentiate(network, weights, dtype, fields)
        if fields == variants.PLAIN:
            plain[dtype] = found
        measured = difference(found, plain["float32"])
        if dtype == "float32":
            near = measured["loss_difference"] <= TOLERANCE["loss"]
            near = near and measured["gradient_difference"] <= TOLERANCE["gradients"]
        else:
            allowed = BFLOAT16_SHARE * difference(plain[dtype], plain["float32"])["gradient_difference"]
            near = measured["gradient_difference"] <= allowed
        return {**measured, "dtype": dtype, "fields": dict(fields), "ok": near and math.isfinite(found.loss)}

    for dtype in ("float32", "bfloat16"):
        where = (name, dtype, jax.default_backend())
        forms = {"plain": variants.PLAIN, "all": variants.everything(*where)}
        if run.size.each_switch:
            forms |= variants.switches(*where)
        for form, fields in forms.items():
            run.measure(f"{name}, {dtype}: {form}", partial(against_plain, dtype, fields))


def main() -> None:
    """Writes the rows of the slice."""
    run = Slice.from_command_line(__doc__)
    for name, network in networks(run).items():
        compare(run, name, network)


if __name__ == "__main__":
    main()
