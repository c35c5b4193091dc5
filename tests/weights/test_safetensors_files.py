from __future__ import annotations

import json

import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from fsa_base.errors import CheckpointError, FsaError
from fsa_jax.weights.hf_files import Lazy, open_directory, read_header, write_directory

TENSORS = st.dictionaries(
    st.text("abc.", min_size=1, max_size=8),
    arrays.arrays(
        st.sampled_from([np.float32, np.float16, np.int64, np.uint8]),
        arrays.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4),
    ),
    min_size=1,
    max_size=5,
)


def lazy(values: np.ndarray) -> Lazy:
    return Lazy(values.shape, values.dtype, lambda: values)


def same(left: np.ndarray, right: np.ndarray) -> bool:
    return left.dtype == right.dtype and left.shape == right.shape and left.tobytes() == right.tobytes()


@settings(max_examples=40)
@given(tensors=TENSORS)
def test_files_are_compatible_with_the_safetensors_library(tensors, tmp_path_factory):
    directory = tmp_path_factory.mktemp("library")
    safetensors.numpy.save_file(tensors, directory / "model.safetensors")
    read = {name: tensor.read() for name, tensor in open_directory(directory).items()}
    assert read.keys() == tensors.keys()
    assert all(same(read[name], values) for name, values in tensors.items())

    ours = tmp_path_factory.mktemp("ours")
    write_directory(ours, {name: lazy(values) for name, values in tensors.items()})
    again = safetensors.numpy.load_file(ours / "model.safetensors")
    assert again.keys() == tensors.keys()
    assert all(same(again[name], values) for name, values in tensors.items())


def test_bfloat16_goes_through_unchanged(tmp_path):
    values = np.arange(12, dtype=np.float32).reshape(3, 4).astype(ml_dtypes.bfloat16)
    write_directory(tmp_path, {"x": lazy(values)})
    assert same(open_directory(tmp_path)["x"].read(), values)


def test_large_models_are_written_in_shards_with_an_index(tmp_path):
    tensors = {f"t{i}": lazy(np.full((10, 10), i, np.float32)) for i in range(5)}
    files = write_directory(tmp_path, tensors, shard_bytes=1000)
    assert [file.name for file in files] == [f"model-0000{i}-of-00003.safetensors" for i in (1, 2, 3)]
    read = open_directory(tmp_path)
    assert all(same(read[name].read(), tensor.values()) for name, tensor in tensors.items())
    files[1].unlink()
    with pytest.raises(FsaError, match="00002"):
        open_directory(tmp_path)


@settings(max_examples=60)
@given(data=st.data())
def test_a_damaged_file_is_refused_and_never_crashes(data, tmp_path_factory):
    directory = tmp_path_factory.mktemp("damaged")
    write_directory(directory, {"a": lazy(np.ones((4, 4), np.float32)), "b": lazy(np.zeros(3, np.float32))})
    file = directory / "model.safetensors"
    content = file.read_bytes()
    file.write_bytes(content[: data.draw(st.integers(0, len(content) - 1))])
    with pytest.raises(CheckpointError, match="safetensors"):
        read_header(file)


def entry(begin: int, end: int, shape: object = None, dtype: object = "F32") -> dict:
    return {"dtype": dtype, "shape": [(end - begin) // 4] if shape is None else shape, "data_offsets": [begin, end]}


HEADERS = {
    "deep": "[" * 100_000,
    "deep objects": '{"a":' * 2000 + "{}" + "}" * 2000,
    "a list": "[]",
    "overlapping": {"a": entry(0, 8), "b": entry(4, 16)},
    "a hole": {"a": entry(0, 4), "b": entry(8, 16)},
    "twice": f'{{"a": {json.dumps(entry(0, 8))}, "a": {json.dumps(entry(8, 16))}}}',
    "beyond the file": {"a": entry(0, 2**40)},
    "a product that overflows": {"a": entry(0, 0, [2**40, 2**40]), "b": entry(0, 16)},
    "a dimension that overflows": {"a": entry(0, 16, [2**70])},
    "negative dimensions": {"a": entry(0, 16, [-2, -2])},
    "many dimensions": {"a": entry(0, 16, [1] * 100 + [4])},
    "a text as dimension": {"a": entry(0, 16, ["4"])},
    "a fraction as dimension": {"a": entry(0, 16, [4.0])},
    "a text as offset": {"a": {**entry(0, 16), "data_offsets": ["0", "16"]}},
    "three offsets": {"a": {**entry(0, 16), "data_offsets": [0, 8, 16]}},
    "no offsets": {"a": {"dtype": "F32", "shape": [4]}},
    "a list as dtype": {"a": entry(0, 16, None, ["F32"])},
    "no entry": {"a": None},
    "half a surrogate pair": f'{{"\\ud800": {json.dumps(entry(0, 16))}}}',
    "metadata is not a table of texts": {"__metadata__": [], "a": entry(0, 16)},
    "not UTF-8": b'{"\xff": 1}',
}


@pytest.mark.parametrize("case", HEADERS)
def test_an_odd_header_is_refused(case, tmp_path):
    content = HEADERS[case]
    text = json.dumps(content) if isinstance(content, dict) else content
    header = text if isinstance(text, bytes) else text.encode()
    (tmp_path / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + bytes(16))
    with pytest.raises(CheckpointError, match=r"model\.safetensors"):
        open_directory(tmp_path)


def test_a_header_that_claims_to_be_huge_is_refused(tmp_path):
    (tmp_path / "model.safetensors").write_bytes((2**60).to_bytes(8, "little") + b"{}")
    with pytest.raises(CheckpointError, match="header too large"):
        open_directory(tmp_path)


def test_a_file_that_changes_after_its_header_was_read_is_refused(tmp_path):
    write_directory(tmp_path, {"x": lazy(np.ones((4, 4), np.float32))})
    file = tmp_path / "model.safetensors"
    tensor, content = open_directory(tmp_path)["x"], file.read_bytes()
    file.write_bytes(content[:-1])
    with pytest.raises(CheckpointError, match=r"model\.safetensors"):
        tensor.read()
    write_directory(tmp_path, {"x": lazy(np.ones((2, 8), np.float32))})
    with pytest.raises(CheckpointError, match=r"x of shape \(2, 8\)"):
        tensor.read()
    file.unlink()
    with pytest.raises(CheckpointError, match="No such file"):
        tensor.read()


@pytest.mark.parametrize(
    "shard", ["../../etc/passwd", "../a.safetensors", "/a.safetensors", "a\\b", "", "a.bin", 3, None, ["a"]]
)
def test_an_index_that_leads_out_of_the_directory_is_refused(shard, tmp_path):
    """The file with the same name next to the index is not read instead."""
    write_directory(tmp_path, {f"t{i}": lazy(np.full((10, 10), i, np.float32)) for i in range(3)}, shard_bytes=500)
    index = tmp_path / "model.safetensors.index.json"
    content = json.loads(index.read_text())
    content["weight_map"]["t1"] = shard
    index.write_text(json.dumps(content))
    with pytest.raises(CheckpointError, match=r"index\.json"):
        open_directory(tmp_path)


def test_an_index_that_names_another_shard_and_a_tensor_in_two_shards_are_refused(tmp_path):
    files = write_directory(tmp_path, {f"t{i}": lazy(np.ones(100, np.float32)) for i in range(2)}, shard_bytes=300)
    index = tmp_path / "model.safetensors.index.json"
    content = json.loads(index.read_text())
    swapped = {"t0": files[1].name, "t1": files[0].name}
    index.write_text(json.dumps({**content, "weight_map": swapped}))
    with pytest.raises(CheckpointError, match=r"t0 in model-00002"):
        open_directory(tmp_path)
    files[1].write_bytes(files[0].read_bytes())
    index.write_text(json.dumps(content))
    with pytest.raises(CheckpointError, match="is also in"):
        open_directory(tmp_path)


def test_a_header_with_wrong_offsets_is_refused(tmp_path):
    file = tmp_path / "model.safetensors"
    header = b'{"x":{"dtype":"F32","shape":[100],"data_offsets":[0,8]}}'
    file.write_bytes(len(header).to_bytes(8, "little") + header + bytes(8))
    with pytest.raises(CheckpointError, match="shape"):
        read_header(file)
    header = b'{"x":{"dtype":"F8_E4M3","shape":[8],"data_offsets":[0,8]}}'
    file.write_bytes(len(header).to_bytes(8, "little") + header + bytes(8))
    with pytest.raises(CheckpointError, match="F8_E4M3"):
        read_header(file)
