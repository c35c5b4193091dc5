"""Best-fit packing: several examples in one row, with little padding.

SeqIO packs next-fit: an example that does not fit into the current row starts a new one. Best-fit looks at a window of
examples and puts each, the longest first, into the row where the least room remains. It is used by binding one of the
converters to the model::

    models.EncoderDecoderModel.feature_converter_cls = @packing.BestFitEncDecFeatureConverter
    packing.BestFitEncDecFeatureConverter.row_lengths = {"inputs": 208, "targets": 640}

Examples are cut to TASK_FEATURE_LENGTHS as before, and then packed into rows of ``row_lengths``. So the examples are
the same as without packing, whatever the length of the rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import seqio
import tensorflow as tf

from fsa_base.errors import SettingError
from fsa_jax.data.chat import ChatFeatureConverter

WINDOW = 500
"""Examples that are packed together. Twice as many would fill the rows by half a percent more."""


class _BestFit(seqio.FeatureConverter):
    """Packs best-fit where SeqIO packs next-fit.

    Args:
      row_lengths: length of each task feature in a packed row. If None, TASK_FEATURE_LENGTHS. Without packing, it is
        not used.
      examples_per_batch: packs exactly so many examples into every ``rows_per_batch`` rows, of which some may stay
        unused. If None, as many as fit. The engine passes both, those of its process
        (``DatasetConfig.examples_per_batch``). Without packing, they are not used.
      rows_per_batch: see ``examples_per_batch``.
      use_custom_packing_ops: must be False; these operations are another way to pack.
      arguments: as those of SeqIO's converter.

    Raises:
      SettingError: an argument is unusable.
    """

    def __init__(
        self,
        row_lengths: Mapping[str, int] | None = None,
        examples_per_batch: int | None = None,
        rows_per_batch: int | None = None,
        use_custom_packing_ops: bool = False,
        **arguments: Any,
    ) -> None:
        if use_custom_packing_ops:
            raise SettingError(
                "DatasetConfig.use_custom_packing_ops",
                expected="False",
                found="True",
                fix="omit it: packing is best-fit",
            )
        if row_lengths is not None and not isinstance(row_lengths, Mapping):
            raise _error("a length for each feature, or None", row_lengths)
        super().__init__(**arguments)
        self._row_lengths = row_lengths
        self._examples, self._rows = examples_per_batch, rows_per_batch

    @property
    def packing(self) -> str | None:
        """Describes the rows. A data position is valid only for equal rows (t5x/data/position.py)."""
        if not self.pack:
            return None
        rows = "the task lengths" if self._row_lengths is None else dict(sorted(self._row_lengths.items()))
        return f"best-fit of {WINDOW}, rows of {rows}"

    def get_model_feature_lengths(self, task_feature_lengths: Mapping[str, int]) -> Mapping[str, int]:
        """The length of every feature of a row."""
        return super().get_model_feature_lengths(self._lengths(task_feature_lengths))  # pyright: ignore[reportAbstractUsage]

    def _convert_features(self, ds: tf.data.Dataset, task_feature_lengths: Mapping[str, int]) -> tf.data.Dataset:
        return super()._convert_features(ds, self._lengths(task_feature_lengths))  # pyright: ignore[reportAbstractUsage]

    def _pack_or_pad(self, ds: tf.data.Dataset, packed_lengths: Mapping[str, int]) -> tf.data.Dataset:
        if not self.pack:
            return super()._pack_or_pad(ds, packed_lengths)
        return packed(ds, packed_lengths, self._examples, self._rows)

    def _lengths(self, task_feature_lengths: Mapping[str, int]) -> Mapping[str, int]:
        """The lengths of a packed row, or those of the task without packing.

        Raises:
          SettingError: the longest example does not fit into a row.
        """
        rows = self._row_lengths if self.pack else None
        if rows is None:
            return task_feature_lengths
        if set(rows) != set(task_feature_lengths) or any(rows[name] < task_feature_lengths[name] for name in rows):
            raise _error(f"at least TASK_FEATURE_LENGTHS, {dict(task_feature_lengths)}", dict(rows))
        return rows


def _error(expected: str, found: Any) -> SettingError:
    fix = "--gin.ROW_LENGTHS=None packs into rows of TASK_FEATURE_LENGTHS"
    return SettingError("ROW_LENGTHS", expected=expected, found=repr(found), fix=fix)


class BestFitEncDecFeatureConverter(_BestFit, seqio.EncDecFeatureConverter):
    """SeqIO's converter for encoder-decoders, with best-fit packing."""


class BestFitChatFeatureConverter(_BestFit, ChatFeatureConverter):
    """The converter for decoder-only students, with best-fit packing."""


def packed(
    dataset: tf.data.Dataset, lengths: Mapping[str, int], examples: int | None = None, batch_rows: int | None = None
) -> tf.data.Dataset:
    """Rows of examples that are packed best-fit, in windows of WINDOW examples, or of ``examples``.

    Args:
      dataset: dicts of int32 arrays (tokens,), one per example, without padding; other features than those in
        ``lengths`` are dropped.
      lengths: length of each feature in a row. Longer features are cut.
      examples: number of examples that are packed together into exactly ``batch_rows`` rows. Unused rows are zeros,
        and fewer examples at the end of the data are dropped. If they do not fit, the dataset raises
        InvalidArgumentError, as t5x/data/exact_batches.py describes.
      batch_rows: see ``examples``.

    Returns:
      Dicts of int32 arrays (length,), padded with 0. For each feature NAME also ``NAME_segment_ids``, the number of the
      example in its row, from 1, and ``NAME_positions``, the number of the token in its example, from 0.
    """
    room = tf.constant(list(lengths.values()), tf.int32)

    def cut(example: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        return {name: example[name][:length] for name, length in lengths.items()}

    def pack(window: Mapping[str, Any]) -> dict[str, tf.Tensor]:
        columns = {
            name: tf.RaggedTensor.from_tensor(c) if isinstance(c, tf.Tensor) else c for name, c in window.items()
        }
        tokens = {name: tf.cast(column.row_lengths(), tf.int32) for name, column in columns.items()}
        row = best_fit(tf.stack([tokens[name] for name in lengths], axis=1), room)
        if batch_rows is not None:
            needed = tf.reduce_max(row) + 1
            tf.debugging.Assert(needed <= batch_rows, [tf.strings.format("rows needed: {}", needed)])
        order = tf.argsort(row, stable=True)
        row = tf.gather(row, order)
        first = tf.math.segment_min(tf.range(tf.size(row)), row)
        segment = tf.range(tf.size(row)) - tf.gather(first, row) + 1
        rows: dict[str, tf.Tensor] = {}
        for name, length in lengths.items():
            sizes = tf.gather(tokens[name], order)
            of_row = tf.math.segment_sum(sizes, row)
            for feature, values in (
                (name, tf.gather(columns[name], order).values),
                (f"{name}_segment_ids", tf.repeat(segment, sizes)),
                (f"{name}_positions", tf.ragged.range(sizes).values),
            ):
                rows[feature] = tf.RaggedTensor.from_row_lengths(values, of_row).to_tensor(shape=[batch_rows, length])
        return rows

    windows = dataset.map(cut, num_parallel_calls=tf.data.AUTOTUNE)
    windows = windows.ragged_batch(examples or WINDOW, drop_remainder=examples is not None)
    return windows.map(pack, num_parallel_calls=tf.data.AUTOTUNE).unbatch()


def best_fit(lengths: tf.Tensor, room: tf.Tensor) -> tf.Tensor:
    """The row of each example, by best-fit decreasing.

    Args:
      lengths: int32 (examples, features), numbers of tokens; each at most ``room``.
      room: int32 (features,), length of a row.

    Returns:
      int32 (examples,), from 0. Rows are numbered by the position of their longest example, so that in examples of
      random order the rows are in random order too, whatever their number of examples.
    """
    count = tf.shape(lengths)[0]
    shares = tf.reduce_sum(lengths / room, axis=1)
    order = tf.argsort(-shares, stable=True)
    lengths = tf.gather(lengths, order)

    def place(at: tf.Tensor, left: tf.Tensor, rows: tf.TensorArray) -> tuple[Any, ...]:
        remaining = left - lengths[at]
        fits = tf.reduce_all(remaining >= 0, axis=1)
        # An unused row fits always and has the most room, so it is chosen only if no other fits.
        share = tf.reduce_sum(remaining / room, axis=1)
        row = tf.argmin(tf.where(fits, share, tf.constant(float("inf"), share.dtype)), output_type=tf.int32)
        return at + 1, tf.tensor_scatter_nd_sub(left, [[row]], lengths[at : at + 1]), rows.write(at, row)

    rows = tf.TensorArray(tf.int32, size=count)
    everywhere = tf.repeat(room[tf.newaxis], count, axis=0)
    *_, rows = tf.while_loop(lambda at, *_: at < count, place, (0, everywhere, rows))
    by_size = rows.stack()
    first = tf.math.unsorted_segment_min(tf.range(count), by_size, count)
    longest = tf.gather(order, tf.minimum(first, count - 1))
    rank = tf.argsort(tf.argsort(tf.where(first < count, longest, count), stable=True), stable=True)
    return tf.scatter_nd(order[:, tf.newaxis], tf.gather(rank, by_size), [count])
