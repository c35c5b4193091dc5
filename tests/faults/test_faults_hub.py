"""Hugging Face folders and repositories with damaged and odd files: they are refused, or the import has exactly the
weights of the files.

Memory is bounded: no case may need 2 GiB more than the process had before, whatever sizes the files claim.
"""

from __future__ import annotations

import json
import random
import resource
import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from campaign import Campaign
from damage import damaged
from hf_models import T5, write_model
from stand_in_hub import Repository, connected_hub

from fsa_base.errors import FsaError
from fsa_jax.tokenizers.vocabulary_check import check_decoder, check_t5
from fsa_jax.weights.families import open_model
from fsa_jax.weights.hf_files import DTYPES
from fsa_jax.weights.hf_mapping import flatten
from fsa_jax.weights.hub import fetch
from fsa_jax.weights.import_model import import_model

MEMORY = 2 << 30
LLAMA = {
    "model_type": "llama",
    "vocab_size": 96,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "tie_word_embeddings": False,
    "rope_scaling": {
        "rope_type": "llama3",
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 64,
    },
}
SMALL_T5 = {**T5, "vocab_size": 256, "feed_forward_proj": "gated-gelu"}
MODELS = {
    "t5": SMALL_T5,
    "t5 v1.1": {**SMALL_T5, "tie_word_embeddings": False},
    "llama": LLAMA,
    "qwen2": {**LLAMA, "model_type": "qwen2", "rope_scaling": None, "tie_word_embeddings": True},
}
ODD: list[Any] = [
    *(None, True, False, 0, -1, 1, 2, 3, 16, 10**12, 2**63, 10**400, 0.5, float("nan"), float("inf"), -1e308),
    *("", "16", "gelu", "../../etc/passwd", "a" * 10_000, [], [1, 2], [[]], {}, {"a": {"a": {}}}, ["F32"]),
]
HOSTILE = [b"", b"null", b"[" * 50_000, b'{"a":' * 5000, b'{"a":"\\ud800"}', b"\xff\xfe\x00", b"9" * 6000, b"{" * 10**6]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Small models of every family, in one file and in shards."""
    made = {}
    for name, config in MODELS.items():
        for shards, limit in (("", 1 << 30), (" in shards", 6000)):
            folder = tmp_path_factory.mktemp("model")
            write_model(folder, config, shard_bytes=limit)
            if config["model_type"] == "t5":
                pieces = [[f"p{i}", 0.0] for i in range(150)]
                (folder / "tokenizer.json").write_text(json.dumps({"model": {"type": "Unigram", "vocab": pieces}}))
            (folder / "generation_config.json").write_text('{"eos_token_id": 1}')
            made[name + shards] = folder
    return made


@pytest.fixture
def bounded_memory() -> Iterator[None]:
    """Limits the memory of the process to its current size plus MEMORY; larger allocations fail."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + MEMORY, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, before)


def _odd_value(content: Any, rng: random.Random) -> str:
    """Changes, removes or adds one value somewhere in JSON."""
    places = []

    def walk(node: Any) -> None:
        for key in node if isinstance(node, dict) else range(len(node)):
            places.append((node, key))
            if isinstance(node[key], dict | list):
                walk(node[key])

    walk(content)
    node, key = rng.choice(places)
    value = rng.choice(ODD)
    kind = rng.randrange(4)
    if kind == 0 and isinstance(node, dict):
        del node[key]
        return f"{key} removed"
    if kind == 1 and isinstance(node, dict):
        node[rng.choice(["extra", "__metadata__", "lm_head.weight", "attention_bias", "scale_decoder_outputs"])] = value
        return f"{str(value)[:20]} added"
    if kind == 2 and isinstance(node[key], int):
        node[key] += rng.choice([-128, -1, 1, 4, 128])
        return f"{key} is {node[key]}"
    node[key] = value
    return f"{key} is {str(value)[:20]}"


def _change_json(file: Path, rng: random.Random) -> str:
    content = json.loads(file.read_text())
    said = _odd_value(content, rng)
    file.write_text(json.dumps(content))
    return said


def _change_header(file: Path, rng: random.Random) -> str:
    data = file.read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    said = _odd_value(header, rng)
    encoded = json.dumps(header).encode()
    if rng.random() < 0.2:
        names = [name for name in header if name != "__metadata__"]
        encoded = encoded[:-1] + b", " + json.dumps({rng.choice(names): header[names[0]]}).encode()[1:]
        said += ", a tensor twice"
    claimed = rng.choice([2**60, 2**63, 0, len(encoded) - 1]) if rng.random() < 0.1 else len(encoded)
    file.write_bytes(claimed.to_bytes(8, "little") + encoded + data[8 + length :])
    return said


def _damage(folder: Path, rng: random.Random) -> str:
    """One fault in one file of a folder."""
    file = rng.choice(sorted(folder.iterdir()))
    kind = rng.randrange(8)
    if kind == 0:
        file.unlink()
        return f"{file.name} missing"
    if kind == 1:
        other = rng.choice(sorted(folder.iterdir()))
        data = other.read_bytes()
        file.write_bytes(data)
        return f"{file.name} has the content of {other.name}"
    if kind == 2:
        data = rng.choice(HOSTILE)
        file.write_bytes(data)
        return f"{file.name} is {data[:10]!r}"
    change = _change_json if file.suffix == ".json" else _change_header
    # After an earlier fault the file may not be JSON any more.
    with suppress(ValueError, TypeError, IndexError, RecursionError):
        if kind <= 5:
            return f"{file.name}: {change(file, rng)}"
    said, data = damaged(file.read_bytes() or b"0", rng)
    file.write_bytes(data)
    return f"{file.name}: {said}"


def _read(folder: Path, vocabulary: Path | None) -> dict[tuple[str, ...], np.ndarray]:
    """Does everything that ``fsa import-hf`` does before it writes."""
    model = open_model(folder)
    if model.family.name == "T5":
        check_t5(folder, model.rows, vocabulary)
    else:
        check_decoder(folder, model.rows)
    return {path: leaf.values() for path, leaf in flatten(model.parameters(np.float32))}


def _load(file: Path) -> dict[str, np.ndarray]:
    """The tensors of a safetensors file: a length, a header, values in the order of their bytes."""
    data = file.read_bytes()
    begin = 8 + int.from_bytes(data[:8], "little")
    tensors = {}
    for name, entry in json.loads(data[8:begin]).items():
        if name != "__metadata__":
            values = np.frombuffer(data, np.uint8)[begin:][slice(*entry["data_offsets"])]
            tensors[name] = values.view(DTYPES[entry["dtype"]]).reshape(entry["shape"])
    return tensors


def _require_same(folder: Path, found: dict[tuple[str, ...], np.ndarray]) -> None:
    """Checks that the values are those of the files, which are read here without the code of the import."""
    index = folder / "model.safetensors.index.json"
    weight_map = json.loads(index.read_text())["weight_map"] if index.is_file() else {"": "model.safetensors"}
    tensors: dict[str, np.ndarray] = {}
    for name in set(weight_map.values()):
        tensors |= _load(folder / name)
    model = open_model(folder)
    leaves = model.family.leaves(model.config)
    assert {leaf.path for leaf in leaves} == found.keys()
    for leaf in leaves:
        name = "shared.weight" if leaf.tensor == "lm_head.weight" and leaf.tensor not in tensors else leaf.tensor
        values = tensors[name].astype(np.float32)
        values = values.T if leaf.transpose else values
        same = found[leaf.path][tuple(map(slice, values.shape))]
        assert same.shape == values.shape and same.tobytes() == values.tobytes(), leaf.path
        assert np.isfinite(values).all() and np.count_nonzero(found[leaf.path]) == np.count_nonzero(values)


def test_faults_hub(
    campaign: Campaign,
    cases: Callable[[int, int], int],
    rng: random.Random,
    folders: dict[str, Path],
    tmp_path: Path,
    vocabulary: Path,
    bounded_memory: None,
) -> None:
    for number in range(cases(120, 3000)):
        name = rng.choice(sorted(folders))
        folder = tmp_path / "folder"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(folders[name], folder)
        said = [_damage(folder, rng) for _ in range(rng.choice([1, 1, 1, 2]))]

        def attempt(folder: Path = folder, own: bool = "t5" in name, whole: bool = number % 50 == 0) -> str:
            found = _read(folder, vocabulary)
            _require_same(folder, found)
            if whole:
                shutil.rmtree(tmp_path / "out", ignore_errors=True)
                import_model(str(folder), tmp_path / "out", vocabulary=vocabulary if own else None)
            return "the weights of the files"

        campaign.run(f"case {number}, {name}: {'; '.join(said)}", attempt)


@pytest.fixture(scope="module")
def vocabulary(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SentencePiece model with the pieces of the T5 folders' tokenizer.json."""
    from sentencepiece import sentencepiece_model_pb2

    model: Any = sentencepiece_model_pb2.ModelProto()  # pyright: ignore[reportAttributeAccessIssue]
    for i in range(150):
        kind = {0: 3, 1: 3, 2: 2}.get(i, 1)
        model.pieces.add(piece=f"p{i}", score=0.0, type=kind)
    model.trainer_spec.pad_id, model.trainer_spec.eos_id, model.trainer_spec.unk_id = 0, 1, 2
    model.trainer_spec.bos_id = -1
    model.trainer_spec.pad_piece, model.trainer_spec.eos_piece, model.trainer_spec.unk_piece = "p0", "p1", "p2"
    file = tmp_path_factory.mktemp("vocabulary") / "spiece.model"
    file.write_bytes(model.SerializeToString())
    return file


def test_undamaged_folders_are_read(folders: dict[str, Path], vocabulary: Path) -> None:
    for folder in folders.values():
        _require_same(folder, _read(folder, vocabulary))


@pytest.mark.parametrize("name", ["tokenizer/../../../../evil", "tokenizer//evil", "/evil.safetensors"])
def test_a_name_in_a_repository_does_not_lead_out_of_the_cache(name: str, tmp_path: Path) -> None:
    with connected_hub(tmp_path / "home" / "cache") as hub:
        repository = hub.repositories["models/me/student"] = Repository()
        repository.add({"config.json": b"{}", "model.safetensors": b"", name: b"evil"}, "")
        with suppress(FsaError):
            fetch("me/student")
    assert [folder.name for folder in tmp_path.iterdir()] == ["home"]
    assert [folder.name for folder in (tmp_path / "home").iterdir()] == ["cache"]
    assert not Path("/evil.safetensors").exists()


def test_files_with_code_are_not_downloaded(tmp_path: Path) -> None:
    with connected_hub(tmp_path / "cache") as hub:
        repository = hub.repositories["models/me/student"] = Repository()
        code = {"modeling.py": b"raise", "pytorch_model.bin": b"", "handler.py": b"", "tokenizer/tokenizer.py": b""}
        repository.add({"config.json": b"{}", "model.safetensors": b"", **code}, "")
        folder = fetch("me/student").directory
        assert sorted(file.name for file in folder.rglob("*.*")) == ["config.json", "model.safetensors"]
