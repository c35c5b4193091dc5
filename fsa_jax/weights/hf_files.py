"""The files of a Hugging Face model: config.json, and safetensors files, read and written one tensor at a time.

The safetensors library reads them. To write a file, the library needs all tensors of the file in memory, which is too
much if the model barely fits the machine; so this module writes files itself. The format is a length (8 bytes), a JSON
header of that length with each tensor's dtype, shape and byte range, and the tensors.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
from safetensors import SafetensorError, safe_open

from fsa_base import untrusted_json
from fsa_base.errors import CheckpointError, MissingDataError

CONFIG = "config.json"
HF_FILES = "hf"
"""Folder next to the checkpoint in which ``fsa import-hf`` stores configuration and tokenizer."""
TOKENIZER_FILES = (
    "spiece.model",
    "tokenizer.model",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "chat_template.jinja",
)
"""Possible files of a tokenizer; a model has some of them."""
SMALL_FILES = (CONFIG, "generation_config.json", *TOKENIZER_FILES)
_CONFIG_BYTES = 1 << 24


def require_inside(directory: Path, name: str) -> None:
    """Checks that a file of a model directory is not a link to a file outside of the directory.

    Imported files may be published later, and must not include other files of the machine. The cache of the Hub links
    each file to ``blobs``; this is allowed.

    Raises:
      CheckpointError: the file is a link out of the directory.
    """
    file = directory / name
    if not file.is_symlink():
        return
    root, target = directory.resolve(), file.resolve()
    if not target.is_relative_to(root) and target.parent != root.parent.parent / "blobs":
        raise CheckpointError(
            file,
            expected="a file of the model's directory",
            found=f"a link to {target}, outside of it",
            fix="replace the link by a copy of the file",
        )


def read_config(directory: Path) -> dict[str, Any]:
    """The content of a model directory's config.json.

    Raises:
      MissingDataError: the file does not exist.
      CheckpointError: the file is not a JSON object.
    """
    file = directory / CONFIG
    if not file.is_file():
        raise MissingDataError(file, expected="a model's config.json", found="nothing", fix="download the whole model")
    if file.stat().st_size > _CONFIG_BYTES:
        found = f"{file.stat().st_size:,} bytes"
        raise CheckpointError(file, expected="a model's config.json", found=found, fix="download it again")
    try:
        content = untrusted_json.parse(file.read_bytes())
    except untrusted_json.UntrustedJsonError as error:
        raise CheckpointError(file, expected="JSON", found=str(error), fix="download the file again") from error
    if not isinstance(content, dict):
        raise CheckpointError(file, expected="a JSON object", found=type(content).__name__, fix="download it again")
    return content


DTYPES: dict[str, Any] = {
    "F64": np.float64,
    "F32": np.float32,
    "F16": np.float16,
    "BF16": ml_dtypes.bfloat16,
    "I64": np.int64,
    "I32": np.int32,
    "U8": np.uint8,
    "BOOL": np.bool_,
}
"""Dtypes by their names in safetensors files."""
_NAMES = {np.dtype(dtype): name for name, dtype in DTYPES.items()}

SHARD_BYTES = 4 * 1024**3
"""Largest size of a file to write."""
SINGLE_FILE, INDEX_FILE = "model.safetensors", "model.safetensors.index.json"
_MESSAGE = 200
"""Characters of the library's message that are shown: it may quote a long name of the header."""
_MOST_AXES = 8
"""Largest number of dimensions of a tensor; the library allows any number, NumPy 64."""
_SHARD = re.compile(r"[\w.-]*\w\.safetensors")
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl", "*.h5", "*.msgpack")


@dataclass(frozen=True)
class Lazy:
    """A function that makes an array of known shape and dtype; a large model is never completely in memory."""

    shape: tuple[int, ...]
    dtype: np.dtype
    values: Callable[[], np.ndarray]

    @property
    def nbytes(self) -> int:
        """Size in bytes."""
        return int(np.prod(self.shape, dtype=np.int64)) * self.dtype.itemsize


@dataclass(frozen=True)
class Tensor:
    """A tensor of a file, not yet in memory."""

    name: str
    file: Path
    dtype: np.dtype
    shape: tuple[int, ...]

    def read(self) -> np.ndarray:
        """Reads the values.

        Returns:
          An array of ``shape`` and ``dtype``.

        Raises:
          CheckpointError: the file was changed or removed after its header was read.
        """
        with _opened(self.file) as opened:
            values = opened.get_tensor(self.name)
        if values.shape != self.shape or values.dtype != self.dtype:
            found = f"{self.name} of shape {values.shape} and {values.dtype}, before {self.shape} and {self.dtype}"
            raise _damaged(self.file, found)
        return values


@contextmanager
def _opened(file: Path) -> Iterator[safe_open]:
    """Opens a file for reading; errors of the library become ours."""
    try:
        # With the default, "mmap", the pages that were read count as memory of the process (peak for tensors of 128 MB:
        # 384 MB instead of 256), and a file that becomes shorter while it is read ends the process with SIGBUS.
        with safe_open(file, framework="numpy", backend="pread") as opened:
            yield opened
    except SafetensorError as error:
        size = file.stat().st_size
        raise _damaged(file, f"{size} bytes, cut short or damaged ({str(error)[:_MESSAGE]})") from error
    except OSError as error:
        raise _damaged(file, str(error)) from error


def _damaged(file: Path, found: str) -> CheckpointError:
    return CheckpointError(
        file, expected="a complete safetensors file", found=found, fix="download the file again and compare its size"
    )


def read_header(file: Path) -> dict[str, Tensor]:
    """The tensors of one file.

    The library checks that they cover the bytes behind the header, each byte once.

    Raises:
      CheckpointError: the file is not a safetensors file, is truncated, or has a dtype that is not supported.
    """
    with _opened(file) as opened:
        return {name: _tensor(name, opened.get_slice(name), file) for name in opened.offset_keys()}


def _tensor(name: str, entry: Any, file: Path) -> Tensor:
    kind, shape = entry.get_dtype(), tuple(entry.get_shape())
    if kind not in DTYPES:
        raise CheckpointError(
            f"{file}: {name}",
            expected=f"a dtype among {', '.join(DTYPES)}",
            found=kind,
            fix="import the model's unquantised weights",
        )
    if len(shape) > _MOST_AXES:
        raise _damaged(file, f"{name} with {len(shape)} axes")
    return Tensor(name, file, np.dtype(DTYPES[kind]), shape)


def open_directory(directory: Path) -> dict[str, Tensor]:
    """The tensors of all safetensors files of a model directory, by name.

    Raises:
      MissingDataError: there is no safetensors file, or a shard of the index is missing.
      CheckpointError: a file is damaged or is a link out of the directory, or the index and the files disagree.
    """
    index = directory / INDEX_FILE
    if index.is_file():
        weight_map = _weight_map(index)
        files = sorted({directory / name for name in weight_map.values()})
    elif (directory / SINGLE_FILE).is_file():
        weight_map, files = {}, [directory / SINGLE_FILE]
    else:
        _refuse_pickles(directory)
        raise MissingDataError(
            directory,
            expected=f"{SINGLE_FILE} or {INDEX_FILE}",
            found="neither",
            fix="give a directory or a Hub id with safetensors weights",
        )
    tensors: dict[str, Tensor] = {}
    for file in files:
        if not file.is_file():
            raise MissingDataError(file, expected="a shard", found="nothing", fix="download the missing shard")
        for name, tensor in read_header(file).items():
            if name in tensors:
                raise _damaged(file, f"{name}, which is also in {tensors[name].file.name}")
            tensors[name] = tensor
    for name, shard in weight_map.items():
        found = tensors.get(name)
        if found is None or found.file.name != shard:
            where = "no shard" if found is None else found.file.name
            raise CheckpointError(
                index,
                expected=f"{name} in {shard}",
                found=f"it in {where}",
                fix="download the index and the shards again, all from the same revision",
            )
    return tensors


def _weight_map(index: Path) -> dict[str, str]:
    """The file name of the shard by tensor, from an index; shards are in the same directory as the index."""
    try:
        content = untrusted_json.parse(index.read_bytes())
        weight_map = content["weight_map"]
        if not isinstance(weight_map, dict) or not weight_map:
            raise ValueError("no weight_map")
        for shard in weight_map.values():
            if not isinstance(shard, str) or not _SHARD.fullmatch(shard):
                raise ValueError(f"a shard {str(shard)[:80]!r}, which is not the name of a safetensors file next to it")
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(
            index, expected="an index with a weight_map", found=str(error), fix="download the file again"
        ) from error
    return weight_map


def _refuse_pickles(directory: Path) -> None:
    found = sorted(path.name for pattern in _PICKLES for path in directory.glob(pattern))
    if found:
        raise CheckpointError(
            directory / found[0],
            expected="safetensors weights",
            found="a pickle or another format that can run code or is not supported",
            fix="use a revision with safetensors (on the Hub often refs/pr/1), or convert it, if you trust it: "
            "transformers' from_pretrained(...).save_pretrained(...) writes safetensors",
        )


def _shards(tensors: Mapping[str, Lazy], limit: int) -> list[dict[str, Lazy]]:
    shards: list[dict[str, Lazy]] = [{}]
    size = 0
    for name, tensor in tensors.items():
        if shards[-1] and size + tensor.nbytes > limit:
            shards.append({})
            size = 0
        shards[-1][name] = tensor
        size += tensor.nbytes
    return shards


def write_directory(directory: Path, tensors: Mapping[str, Lazy], *, shard_bytes: int = SHARD_BYTES) -> list[Path]:
    """Writes the tensors in order, to one file, or to several with an index if they exceed ``shard_bytes``.

    Returns:
      The files.
    """
    shards = _shards(tensors, shard_bytes)
    if len(shards) == 1:
        _write(directory / SINGLE_FILE, shards[0])
        return [directory / SINGLE_FILE]
    files, weight_map = [], {}
    for i, shard in enumerate(shards, 1):
        file = directory / f"model-{i:05d}-of-{len(shards):05d}.safetensors"
        _write(file, shard)
        files.append(file)
        weight_map |= dict.fromkeys(shard, file.name)
    total = sum(tensor.nbytes for tensor in tensors.values())
    index = {"metadata": {"total_size": total}, "weight_map": dict(sorted(weight_map.items()))}
    (directory / INDEX_FILE).write_text(json.dumps(index, indent=2) + "\n")
    return files


def _write(file: Path, tensors: Mapping[str, Lazy]) -> None:
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, tensor in tensors.items():
        header[name] = {
            "dtype": _NAMES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [end, end + tensor.nbytes],
        }
        end += tensor.nbytes
    encoded = json.dumps(header, separators=(",", ":")).encode()
    encoded += b" " * (-len(encoded) % 8)
    with open(file, "wb") as stream:
        stream.write(len(encoded).to_bytes(8, "little"))
        stream.write(encoded)
        for tensor in tensors.values():
            values = np.ascontiguousarray(tensor.values(), dtype=tensor.dtype)
            stream.write(values.reshape(-1).view(np.uint8).data)
