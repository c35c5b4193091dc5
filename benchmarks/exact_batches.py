"""Counts the rows that batches of exactly N examples need, by the lengths of the rows, and what they cost.

    python -m benchmarks exact_batches --lengths tests/testdata/teacher_lengths.json

The file has the numbers of input and target tokens of examples, cut as in the recipe. Batches are drawn from them with
replacement, as if a corpus with the same lengths were so large that no example returns. Each batch is packed best-fit
on its own. Plain best-fit packs 500 examples together, whatever batch they come to.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import tensorflow as tf

from fsa_jax.data.packing import WINDOW, best_fit
from t5x.data.exact_batches import DEVIATIONS


def rows(drawn: np.ndarray, room: tuple[int, ...]) -> np.ndarray:
    """The number of rows that each batch of drawn lengths (batches, examples, 2) needs."""
    place = tf.function(best_fit, input_signature=[tf.TensorSpec([None, 2], tf.int32), tf.TensorSpec([2], tf.int32)])
    return np.array([int(tf.reduce_max(place(tf.constant(batch, tf.int32), tf.constant(room)))) + 1 for batch in drawn])


def main() -> None:
    """Prints a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lengths", type=Path, required=True, help="JSON list of [inputs, targets]")
    parser.add_argument("--examples", type=int, default=100, help="of a batch")
    parser.add_argument("--batches", type=int, default=2000)
    parser.add_argument("--rows", nargs="+", default=["128/400", "192/600", "208/640", "256/768", "320/1000"])
    options = parser.parse_args()
    lengths = np.array(json.loads(options.lengths.read_text()))
    generator = np.random.default_rng(0)
    drawn = lengths[generator.integers(len(lengths), size=(options.batches, options.examples))]
    whole = drawn.reshape(-1, 2)[: drawn[..., 0].size // WINDOW * WINDOW].reshape(-1, WINDOW, 2)
    targets = drawn[..., 1].sum() / options.batches
    print(f"{options.batches} batches of {options.examples} examples, {targets:,.0f} target tokens each\n")
    print(
        "| rows | rows of a batch: mean (deviation) | most | enough | target positions | filled | "
        "plain best-fit: rows | target positions | filled |"
    )
    print("| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    for name in options.rows:
        room = tuple(map(int, name.split("/")))
        needed, plain = rows(drawn, room), rows(whole, room).mean() * options.examples / WINDOW
        enough = int(np.ceil(needed.mean() + DEVIATIONS * needed.std()))
        cells = [f"{needed.mean():.1f} ({needed.std():.2f})", str(needed.max())]
        for count in (enough, plain):
            cells += [f"{count:.4g}", f"{count * room[1]:,.0f}", f"{targets / count / room[1]:.0%}"]
        print(f"| {name} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
