"""The files that inference writes: JSONL files of inputs with predictions or scores, in chunks that are then merged."""

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
    """The part of a vocabulary's interface that is used here."""

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
    """Writes one JSON object per line: ``inputs``, and ``prediction`` or ``score``.

    Args:
      path: The file.
      inferences: Ids or scores of every example, and auxiliary values by name, of every example.
      task_ds: The examples of the task, in the same order.
      mode: ``predict``, ``score`` or ``predict_with_aux``.
      vocabulary: Decodes ids. If None, ids are written.
      json_encoder_cls: Encodes arrays. If None, SeqIO's encoder.
      include_all_inputs: Write all features instead of those whose name ends in ``_pretokenized``.
      input_fields_to_include: Write these features instead.
      output_ids: Also write the ids.
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
    """Returns the file of chunk ``number``. It exists if the chunk is complete."""
    return directory / _CHUNK.format(number)


def chunks_in(directory: epath.Path) -> list[epath.Path]:
    """Returns the files of the complete chunks, in order."""
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
    """Adds a value to the digest; different values always add different bytes."""
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
        # An array of objects (strings) contains addresses, which differ between processes.
        content = repr(array.tolist()).encode() if array.dtype == object else array.tobytes()
    digest.update(f"{kind} {len(content)}:".encode())
    digest.update(content)


def write_settings(file: epath.Path, settings: Mapping[str, Any]) -> None:
    """Writes the checkpoint and the settings from which results are computed; completely or not at all."""
    with replacing(file, durable=True) as partial:
        partial.write_text(json.dumps(settings, indent=1))


def require_same_settings(directory: epath.Path, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Creates the directory of the chunks and writes ``settings`` there, or compares them with those written there.

    Returns:
      The settings of the joined file. The examples are not among them if the existing chunks do not record theirs.

    Raises:
      SettingError: The existing chunks have other settings, so the joined file would mix two models or two versions of
        the examples.
    """
    record = directory / _RECORD
    if not record.exists():  # There are no chunks yet, or chunks of an older version, which cannot be compared.
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
    if not chunks_in(directory):  # No chunk exists yet, so all will be of these examples.
        write_settings(record, settings)
        return dict(settings)
    return _without_examples(settings)


def was_of_same_settings(completed: epath.Path, settings: Mapping[str, Any]) -> bool:
    """Returns whether ``completed`` records the same ``settings``; False if it does not record all of them.

    T5X and older versions write an empty file after an inference, or one without the examples.

    Raises:
      SettingError: The completed inference has another checkpoint or other settings.
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
    """Returns the recorded settings that differ from ``settings``, as text; empty if none differ."""
    try:
        recorded = json.loads(record)
        compared = [name for name in settings if name in recorded or name not in _EXAMPLES]
        return ", ".join(f"{name} {recorded[name]!r}" for name in compared if recorded[name] != settings[name])
    except (ValueError, KeyError, TypeError) as error:
        return f"a record that cannot be read ({error})"


def merge_chunks_to_file(output_dir: str, output_fname: str, tmp_dir: str, step: int | None) -> None:
    """Joins the chunks in ``tmp_dir`` to ``output_dir/output_fname``, in order, and deletes them.

    Args:
      output_dir: Directory of the result.
      output_fname: Name of the result.
      tmp_dir: Directory of the chunks.
      step: Ignored.
    """
    del step
    directory, result = epath.Path(tmp_dir), epath.Path(output_dir) / output_fname
    chunks = chunks_in(directory)
    # Durable: the result must be on the disk before the chunks are deleted.
    with replacing(result, durable=True) as partial, partial.open("w") as file:
        for chunk in chunks:
            file.write(chunk.read_text())
    for (
        chunk
    ) in chunks:  # The settings are deleted last: without them, nobody could tell which settings the chunks have.
        chunk.unlink()
    directory.rmtree()
