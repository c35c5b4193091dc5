"""Safetensors files, read and written one tensor at a time.

The library of that name maps the whole file into memory to read a tensor and wants all tensors in memory to write them;
a model that only just fits the machine then does not. The format is a length (8 bytes), a JSON header of that length
with each tensor's dtype, shape and byte range, and the tensors.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from fsa_jax.errors import CheckpointError, MissingDataError
from fsa_jax.models.hf.lazy import Lazy

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
"""Safetensors' names of dtypes."""
_NAMES = {np.dtype(dtype): name for name, dtype in DTYPES.items()}

SHARD_BYTES = 4 * 1024**3
"""Files that are written hold at most this much."""
SINGLE_FILE, INDEX_FILE = "model.safetensors", "model.safetensors.index.json"
_HEADER_LIMIT = 100 * 1024**2
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl", "*.h5", "*.msgpack")


@dataclass(frozen=True)
class Tensor:
    """Where one tensor lies; ``read`` brings it into memory."""

    name: str
    file: Path
    dtype: np.dtype
    shape: tuple[int, ...]
    offset: int

    def read(self) -> np.ndarray:
        """The values, ``shape``, ``dtype``."""
        count = int(np.prod(self.shape, dtype=np.int64))
        values = np.empty(count, self.dtype)
        with open(self.file, "rb", buffering=0) as stream:
            stream.seek(self.offset)
            target, done = values.view(np.uint8).data, 0
            while done < len(target):
                size = stream.readinto(target[done:])
                if not size:
                    raise _damaged(self.file, f"the end of the file within {self.name}")
                done += size
        return values.reshape(self.shape)


def _damaged(file: Path, found: str) -> CheckpointError:
    return CheckpointError(
        file, expected="a whole safetensors file", found=found, fix="download the file again and compare its size"
    )


def read_header(file: Path) -> dict[str, Tensor]:
    """The tensors of one file.

    Raises:
      CheckpointError: it is no safetensors file, is cut short, or holds a dtype that is no model weight.
    """
    size = file.stat().st_size
    with open(file, "rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        if size < 8 or length > min(size - 8, _HEADER_LIMIT):
            raise _damaged(file, f"{size} bytes, of which {length} would be the header")
        try:
            header = json.loads(stream.read(length))
            entries = {name: entry for name, entry in header.items() if name != "__metadata__"}
            tensors, end = {}, 0
            for name, entry in entries.items():
                begin, stop = (int(x) for x in entry["data_offsets"])
                if entry["dtype"] not in DTYPES:
                    raise CheckpointError(
                        f"{file}: {name}",
                        expected=f"a dtype among {', '.join(DTYPES)}",
                        found=str(entry["dtype"]),
                        fix="import the model's unquantised weights",
                    )
                dtype, shape = np.dtype(DTYPES[entry["dtype"]]), tuple(int(x) for x in entry["shape"])
                size_of_values = np.prod(shape, dtype=np.int64) * dtype.itemsize
                if begin < 0 or min(shape, default=0) < 0 or stop - begin != size_of_values:
                    raise _damaged(file, f"{name} of shape {shape} in bytes {begin} to {stop}")
                tensors[name] = Tensor(name, file, dtype, shape, 8 + length + begin)
                end = max(end, stop)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise _damaged(file, f"a header that cannot be read ({type(error).__name__}: {error})") from error
    if size != 8 + length + end:
        raise _damaged(file, f"{size} bytes where the header promises {8 + length + end}")
    return tensors


def open_directory(directory: Path) -> dict[str, Tensor]:
    """The tensors of all safetensors files of a model directory, by name.

    Raises:
      MissingDataError: no safetensors file is there, or a shard of the index is missing.
      CheckpointError: a file is damaged, or the index and the files disagree.
    """
    index = directory / INDEX_FILE
    if index.is_file():
        try:
            weight_map: dict[str, str] = json.loads(index.read_text())["weight_map"]
            files = sorted({directory / Path(name).name for name in weight_map.values()})
        except (ValueError, KeyError, AttributeError, TypeError) as error:
            raise CheckpointError(
                index, expected="an index with a weight_map", found=repr(error), fix="download the file again"
            ) from error
    elif (directory / SINGLE_FILE).is_file():
        weight_map, files = {}, [directory / SINGLE_FILE]
    else:
        _refuse_pickles(directory)
        raise MissingDataError(
            directory,
            expected=f"{SINGLE_FILE} or {INDEX_FILE}",
            found="neither",
            fix="give a directory or a hub id that holds safetensors weights",
        )
    tensors: dict[str, Tensor] = {}
    for file in files:
        if not file.is_file():
            raise MissingDataError(file, expected="a shard", found="nothing", fix="download the missing shard")
        tensors |= read_header(file)
    absent = sorted(set(weight_map) - set(tensors))
    if absent:
        raise CheckpointError(
            index, expected="every tensor of the index in a shard", found=f"no {absent[0]}", fix="download it again"
        )
    return tensors


def _refuse_pickles(directory: Path) -> None:
    found = sorted(path.name for pattern in _PICKLES for path in directory.glob(pattern))
    if found:
        raise CheckpointError(
            directory / found[0],
            expected="safetensors weights",
            found="a pickle or another format that can run code or that is not read here",
            fix="take a revision with safetensors (on the hub often refs/pr/1), or convert it where you trust it: "
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
    """Writes the tensors in order, in one file or, beyond ``shard_bytes``, several with an index; returns the files."""
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
