"""What inference leaves on disk: JSONL files of inputs with predictions or scores, written by chunk and then merged."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

import jax
import numpy as np
from etils import epath

from fsa_base.disk import replacing
from fsa_base.errors import SettingError


class Decoder(Protocol):
    """What is read of a vocabulary here."""

    def decode(self, ids: Iterable[int]) -> str: ...


_CHUNK = "chunk-{:06}"
_RECORD = "settings.json"
_EXAMPLES = ("examples", "digest of the examples")
"""Settings that records of earlier versions lack."""


def write_inferences_to_file(
    path: str,
    inferences: tuple[Sequence[Any], Mapping[str, Any]],
    task_ds: Any,
    mode: str,
    vocabulary: Decoder | None = None,
    json_encoder_cls: type[json.JSONEncoder] | None = None,
    include_all_inputs: bool = False,
    input_fields_to_include: Sequence[str] | None = None,
    output_ids: bool = False,
) -> None:
    """Writes one JSON object a line: ``inputs`` and ``prediction`` or ``score``.

    Args:
      path: the file.
      inferences: ids or scores by example, and auxiliary values by name and example.
      task_ds: the task's examples, in the same order.
      mode: ``predict``, ``score`` or ``predict_with_aux``.
      vocabulary: decodes ids.
      json_encoder_cls: how arrays are written; SeqIO's encoder if None.
      include_all_inputs: whether to write all features instead of those that end in ``_pretokenized``.
      input_fields_to_include: writes these features instead.
      output_ids: whether to write the ids as well.
    """
    import seqio

    encoder = json_encoder_cls or seqio.loggers.TensorAndNumpyEncoder
    values, auxiliary = inferences
    with epath.Path(path).open("w") as file:
        for number, (example, value) in enumerate(zip(task_ds.as_numpy_iterator(), values, strict=True)):
            row: dict[str, Any] = {"inputs": _inputs(example, include_all_inputs, input_fields_to_include)}
            if mode == "score":
                row["score"] = value
            else:
                row["prediction"] = _decoded(value, vocabulary)
                if output_ids:
                    row["prediction_tokens"] = np.asarray(value).tolist()
            if auxiliary:
                row["aux"] = jax.tree.map(
                    lambda leaf, number=number: leaf[number], auxiliary, is_leaf=lambda node: isinstance(node, list)
                )
            file.write(json.dumps(row, cls=encoder) + "\n")


def _inputs(example: Mapping[str, Any], everything: bool, fields: Sequence[str] | None) -> dict[str, Any]:
    if fields is not None:
        return {name: example[name] for name in fields if name in example}
    if everything:
        return dict(example)
    return {name: value for name, value in example.items() if name.endswith("_pretokenized")}


def _decoded(ids: Any, vocabulary: Decoder | None) -> Any:
    ids = np.asarray(ids)
    if vocabulary is None:
        return ids.tolist()
    if ids.ndim > 1:
        return [_decoded(row, vocabulary) for row in ids]
    return vocabulary.decode([int(token) for token in ids])


def chunk_path(directory: epath.Path, number: int) -> epath.Path:
    """Returns the file of chunk ``number``; it exists once the chunk is done."""
    return directory / _CHUNK.format(number)


def chunks_in(directory: epath.Path) -> list[epath.Path]:
    """Returns the files of the chunks that are done, in order."""
    if not directory.exists():
        return []
    return sorted(entry for entry in directory.iterdir() if re.fullmatch(r"chunk-\d+", entry.name))


def settings_of_examples(examples: Any) -> dict[str, Any]:
    """Returns the number of examples and a digest of their features and order, as settings of an inference.

    The same files, task and versions give the same digest in every process.
    """
    digest, total = hashlib.sha256(), 0
    for example in examples.as_numpy_iterator():
        _add(digest, example)
        total += 1
    return dict(zip(_EXAMPLES, (total, digest.hexdigest()), strict=True))


def _add(digest: Any, value: Any) -> None:
    """Adds a value so that no two different ones add the same bytes."""
    if isinstance(value, Mapping):
        digest.update(f"{len(value)} features".encode())
        for name in sorted(value):
            _add(digest, name)
            _add(digest, value[name])
        return
    if hasattr(value, "row_splits"):  # TensorFlow's ragged values
        value = (value.row_splits, value.values)
    if isinstance(value, tuple | list):
        digest.update(f"{len(value)} parts".encode())
        for part in value:
            _add(digest, part)
        return
    if isinstance(value, str | bytes):
        kind, content = type(value).__name__, value.encode() if isinstance(value, str) else value
    else:
        array = np.asarray(value)
        kind = f"{array.dtype} {array.shape}"
        # An array of objects (strings) holds addresses, which are others in each process.
        content = repr(array.tolist()).encode() if array.dtype == object else array.tobytes()
    digest.update(f"{kind} {len(content)}:".encode())
    digest.update(content)


def write_settings(file: epath.Path, settings: Mapping[str, Any]) -> None:
    """Writes the record of the checkpoint and the settings that results are of, whole or not at all."""
    with replacing(file, durable=True) as partial:
        partial.write_text(json.dumps(settings, indent=1))


def require_same_settings(directory: epath.Path, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Creates the directory of the chunks with a record of ``settings``, or compares them with the record there.

    Returns:
      The settings that the joined file is known to be of: without the examples where the chunks there do not say of
      which they are.

    Raises:
      SettingError: the chunks there are of other settings: the joined file would mix two models, or old examples and
        new ones.
    """
    record = directory / _RECORD
    if not record.exists():  # Nothing is there yet, or chunks of an older version, which cannot be compared.
        known = _without_examples(settings) if chunks_in(directory) else dict(settings)
        directory.mkdir(parents=True, exist_ok=True)
        write_settings(record, known)
        return known
    text = record.read_text()
    if different := _different(text, settings):
        raise SettingError(
            directory,
            expected="the chunks of an interrupted run with the same settings, or none",
            found=f"those of another: {different}",
            fix=f"start that run's command again, give another INFER_OUTPUT_DIR, or begin anew: rm -r {directory}",
        )
    if _says_of_which_examples(text):
        return dict(settings)
    if not chunks_in(directory):  # All are still to be done, of these examples.
        write_settings(record, settings)
        return dict(settings)
    return _without_examples(settings)


def was_of_same_settings(completed: epath.Path, settings: Mapping[str, Any]) -> bool:
    """Returns whether the record in ``completed`` is of ``settings``, False where it does not say.

    T5X and older versions leave an empty file behind a finished inference, or a record without the examples.

    Raises:
      SettingError: the finished inference is of another checkpoint or of other settings.
    """
    text = completed.read_text()
    if text and (different := _different(text, settings)):
        raise SettingError(
            completed,
            expected="no finished inference, or one with the same settings",
            found=f"one of another: {different}",
            fix=f"give another INFER_OUTPUT_DIR, or infer again: rm {completed}",
        )
    return bool(text) and _says_of_which_examples(text)


def _without_examples(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in settings.items() if name not in _EXAMPLES}


def _says_of_which_examples(record: str) -> bool:
    return json.loads(record).keys() >= set(_EXAMPLES)


def _different(record: str, settings: Mapping[str, Any]) -> str:
    """What a record says otherwise than ``settings``, empty if nothing; it may lack the examples."""
    try:
        recorded = json.loads(record)
        compared = [name for name in settings if name in recorded or name not in _EXAMPLES]
        return ", ".join(f"{name} {recorded[name]!r}" for name in compared if recorded[name] != settings[name])
    except (ValueError, KeyError, TypeError) as error:
        return f"a record that cannot be read ({error})"


def merge_chunks_to_file(output_dir: str, output_fname: str, tmp_dir: str, step: int | None) -> None:
    """Joins the chunks in ``tmp_dir`` to ``output_dir/output_fname``, in order, and deletes them.

    Args:
      output_dir: where the result goes.
      output_fname: its name.
      tmp_dir: directory of the chunks.
      step: accepted for T5X's signature.
    """
    del step
    directory, result = epath.Path(tmp_dir), epath.Path(output_dir) / output_fname
    chunks = chunks_in(directory)
    # Durable: the result's name too is on the disk before what it was made from is gone.
    with replacing(result, durable=True) as partial, partial.open("w") as file:
        for chunk in chunks:
            file.write(chunk.read_text())
    for chunk in chunks:  # Before the record of their settings, without which they could not be told from others'.
        chunk.unlink()
    directory.rmtree()
