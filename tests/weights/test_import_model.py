from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hf_models import QWEN3, T5, write_model

from fsa_base.errors import CheckpointError, VocabularyError
from fsa_jax.cli import main as cli
from fsa_jax.weights.families import family_of
from fsa_jax.weights.hf_files import open_directory
from fsa_jax.weights.hf_mapping import write_parameters
from fsa_jax.weights.import_model import import_model
from fsa_jax.weights.weight_checkpoints import find_checkpoint, load_weights


@pytest.mark.parametrize("config", [T5, {**T5, "feed_forward_proj": "gated-gelu", "tie_word_embeddings": False}, QWEN3])
@pytest.mark.parametrize("scan_layers", [False, True])
def test_import_and_export_are_bit_identical(config, scan_layers, tmp_path):
    write_model(tmp_path / "source", config)
    record = import_model(str(tmp_path / "source"), tmp_path / "out", scan_layers=scan_layers)
    assert record.embedding_rows == config["vocab_size"]
    family = family_of(config)
    parameters = load_weights(find_checkpoint(tmp_path / "out"))
    written = write_parameters(family, family.config(config, None), parameters, np.float32, rows=config["vocab_size"])
    source = open_directory(tmp_path / "source")
    assert written.keys() == source.keys()
    for name, tensor in source.items():
        assert written[name].values().tobytes() == tensor.read().tobytes(), name


def test_the_authors_students_are_padded_with_zeros(t5, tmp_path):
    import_model(str(t5), tmp_path / "out")
    embedding = load_weights(find_checkpoint(tmp_path / "out"))["token_embedder"]["embedding"]
    assert embedding.shape == (32128, 16)
    assert not embedding[32101:].any()
    assert embedding[32100].any()


def test_bfloat16(t5, tmp_path):
    import_model(str(t5), tmp_path / "out", dtype="bfloat16")
    exact = open_directory(t5)["encoder.final_layer_norm.weight"].read()
    rounded = load_weights(find_checkpoint(tmp_path / "out"))["encoder"]["encoder_norm"]["scale"]
    np.testing.assert_allclose(rounded, exact, rtol=2**-8)
    assert (rounded != exact).any()


def _pickle(directory: Path) -> None:
    (directory / "model.safetensors").rename(directory / "pytorch_model.bin")


def _truncate(directory: Path) -> None:
    file = directory / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])


def _config(**changes):
    def change(directory: Path) -> None:
        file = directory / "config.json"
        file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))

    return change


def _nan(directory: Path) -> None:
    content = bytearray((directory / "model.safetensors").read_bytes())
    content[-4:] = np.float32(np.nan).tobytes()
    (directory / "model.safetensors").write_bytes(content)


def _tokenizer(directory: Path) -> None:
    pieces = [[f"piece{i}", 0.0] for i in range(500)]
    (directory / "tokenizer.json").write_text(json.dumps({"model": {"type": "Unigram", "vocab": pieces}}))


BAD = {
    "a pickle": (_pickle, "pytorch_model.bin.*safetensors"),
    "a truncated file": (_truncate, "bytes, cut short or damaged"),
    "another family": (_config(model_type="gpt2"), "gpt2"),
    "another activation": (_config(feed_forward_proj="gated-swish"), "gated-swish"),
    "another depth": (_config(num_layers=3), "encoder.block.2"),
    "another width": (_config(d_model=32), "shape"),
    "a vocabulary that does not match": (_tokenizer, "other pieces"),
    "rows that are too few": (_config(vocab_size=1000), "1000"),
    "a missing key": (_config(d_ff=None), "d_ff: expected a whole number"),
    "a NaN weight": (_nan, "finite"),
    "no config": (lambda directory: (directory / "config.json").unlink(), "config.json"),
    "no JSON": (lambda directory: (directory / "config.json").write_text("{"), "JSON"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_source_is_refused_and_leaves_nothing(case, t5, tmp_path, capsys):
    damage, message = BAD[case]
    damage(t5)
    before = sorted(tmp_path.iterdir())
    assert cli.main(["import-hf", str(t5), str(tmp_path / "out")]) == 2
    printed = capsys.readouterr().err
    assert re.search(message, printed) and "to fix it" in printed
    assert sorted(tmp_path.iterdir()) == before


ODD_COUNTS = [10**12, 10**400, -1, 0, 2.5, "16", True, [16], {}, float("nan"), float("inf"), 10**9]


@pytest.mark.parametrize(
    "key", ["vocab_size", "d_model", "d_kv", "d_ff", "num_layers", "num_decoder_layers", "num_heads"]
)
@pytest.mark.parametrize("value", ODD_COUNTS, ids=lambda value: str(value)[:12])
def test_absurd_sizes_are_refused_by_name(key, value):
    """A configuration is refused before any array of its sizes is created."""
    with pytest.raises(CheckpointError, match=f"config.json: {key}"):
        family_of(T5).config({**T5, key: value}, None)


@pytest.mark.parametrize("key", ["vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "head_dim"])
@pytest.mark.parametrize("value", ODD_COUNTS, ids=lambda value: str(value)[:12])
def test_absurd_sizes_of_a_decoder_are_refused_by_name(key, value):
    with pytest.raises(CheckpointError, match=f"config.json: {key}"):
        family_of(QWEN3).config({**QWEN3, key: value}, None)


@pytest.mark.parametrize(
    "changes",
    [
        {"rope_theta": float("nan")},
        {"rope_theta": "x"},
        {"rope_scaling": [1]},
        {"rope_scaling": {"rope_type": "llama3", "factor": None}},
        {"rms_norm_eps": -1},
        {"use_sliding_window": "true"},
        {"tie_word_embeddings": 1},
        {"model_type": ["qwen3"]},
        {"hidden_act": ["silu"]},
    ],
)
def test_values_of_another_type_are_refused(changes):
    with pytest.raises(CheckpointError):
        content = {**QWEN3, **changes}
        family_of(content).config(content, None)


def test_a_deep_configuration_and_a_huge_one_are_refused(t5, tmp_path, capsys):
    for content in ("[" * 100_000, '{"a":' * 500 + "1" + "}" * 500, '{"d_model": ' + "9" * 6000 + "}", "\udcff"):
        (t5 / "config.json").write_bytes(content.encode(errors="surrogateescape"))
        assert cli.main(["import-hf", str(t5), str(tmp_path / "out")]) == 2
        assert "config.json" in capsys.readouterr().err
    with open(t5 / "config.json", "wb") as stream:
        stream.truncate(1 << 40)
    assert cli.main(["import-hf", str(t5), str(tmp_path / "out")]) == 2
    assert "1,099,511,627,776 bytes" in capsys.readouterr().err


def test_a_link_out_of_the_directory_is_refused(t5, tmp_path, capsys):
    """Such a file could later be published. Links inside the cache of the hub (to blobs) are read."""
    secret = tmp_path / "secret"
    secret.write_text('{"password": 1}')
    (t5 / "tokenizer_config.json").symlink_to(secret)
    assert cli.main(["import-hf", str(t5), str(tmp_path / "out")]) == 2
    assert "tokenizer_config.json" in capsys.readouterr().err and not (tmp_path / "out").exists()
    snapshot, blobs = tmp_path / "hub" / "snapshots" / "abc", tmp_path / "hub" / "blobs"
    snapshot.mkdir(parents=True)
    blobs.mkdir()
    for file in (t5 / "config.json", t5 / "model.safetensors"):
        file.rename(blobs / file.name)
        (snapshot / file.name).symlink_to(Path("../../blobs") / file.name)
    assert cli.main(["import-hf", str(snapshot), str(tmp_path / "out")]) == 0


def test_an_import_records_the_digests_of_what_it_read(t5, tmp_path, capsys):
    import hashlib

    assert cli.main(["import-hf", str(t5), str(tmp_path / "out")]) == 0
    recorded = json.loads((tmp_path / "out" / "import.json").read_text())["sha256"]
    files = ("config.json", "model.safetensors")
    assert recorded == {name: hashlib.sha256((t5 / name).read_bytes()).hexdigest() for name in files}
    assert "SHA-256 of the 2 source files" in capsys.readouterr().out


def test_a_t5_v1_1_of_transformers_5_gets_its_embedding_as_output_projection(tmp_path):
    """Its embedding is tied and its logits are unscaled, so its file has no lm_head.weight (logits: tests/parity)."""
    config = {**T5, "feed_forward_proj": "gated-gelu"}
    write_model(tmp_path / "t5", config)
    changed = {**config, "tie_word_embeddings": True, "scale_decoder_outputs": False}
    (tmp_path / "t5" / "config.json").write_text(json.dumps(changed))
    import_model(str(tmp_path / "t5"), tmp_path / "out")
    parameters = load_weights(find_checkpoint(tmp_path / "out"))
    embedding = parameters["token_embedder"]["embedding"]
    np.testing.assert_array_equal(parameters["decoder"]["logits_dense"]["kernel"], embedding.T)
    (tmp_path / "t5" / "config.json").write_text(json.dumps({**config, "tie_word_embeddings": False}))
    with pytest.raises(CheckpointError, match=r"lm_head\.weight in the weights"):
        import_model(str(tmp_path / "t5"), tmp_path / "out2")


def test_an_output_that_exists_is_not_touched(t5, tmp_path, capsys):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").write_text("mine")
    assert cli.main(["import-hf", str(t5), str(tmp_path / "out")]) == 2
    assert "that does not exist" in capsys.readouterr().err
    assert [file.name for file in (tmp_path / "out").iterdir()] == ["mine"]


def test_a_decoder_needs_its_tokenizer(qwen, tmp_path):
    vocab = {chr(33 + i): i for i in range(200)}
    (qwen / "tokenizer.json").write_text(json.dumps({"model": {"type": "BPE", "vocab": vocab}}))
    with pytest.raises(VocabularyError, match="id 199"):
        import_model(str(qwen), tmp_path / "out")
    (qwen / "tokenizer.json").unlink()
    with pytest.raises(VocabularyError, match="tokenizer"):
        import_model(str(qwen), tmp_path / "out")


def test_a_sliding_window_is_refused(qwen, tmp_path, edit_config):
    edit_config(qwen, use_sliding_window=True)
    with pytest.raises(CheckpointError, match="use_sliding_window"):
        import_model(str(qwen), tmp_path / "out")


_MEASURE = """
import re, sys
from pathlib import Path
from fsa_jax.weights.import_model import import_model
from fsa_jax.weights.weight_checkpoints import save_weights
import numpy as np

def peak():
    # Not getrusage: it starts with the peak of the parent process.
    return int(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]) * 1024

before = peak()
import_model(sys.argv[1], Path(sys.argv[2]))
print(peak() - before)
"""


def test_a_model_is_never_completely_in_memory(tmp_path):
    config = {**T5, "d_model": 512, "d_kv": 64, "d_ff": 2048, "num_heads": 8, "num_layers": 4}
    write_model(tmp_path / "source", config, shard_bytes=70 * 1024**2)
    files = sorted((tmp_path / "source").glob("*.safetensors"))
    size = sum(file.stat().st_size for file in files)
    assert len(files) > 1 and size > 150 * 1024**2
    run = subprocess.run(
        [sys.executable, "-c", _MEASURE, str(tmp_path / "source"), str(tmp_path / "out")],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "XLA_FLAGS": ""},
    )
    grown = int(run.stdout.split()[-1])
    # The limit is 1.3 times the model's size (benchmarks/import_memory.py checks it at full size, including Python's
    # memory). One tensor is read at a time, so that the peak is a few times the largest one, here the embedding.
    assert grown < 1.3 * size, f"{grown / size:.2f} of the model's size"


def test_an_import_is_replaced_only_with_overwrite(t5, tmp_path, capsys):
    out = tmp_path / "out"
    assert cli.main(["import-hf", str(t5), str(out)]) == 0
    assert cli.main(["import-hf", str(t5), str(out), "--dtype", "bfloat16"]) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert json.loads((out / "import.json").read_text())["dtype"] == "float32"
    assert cli.main(["import-hf", str(t5), str(out), "--dtype", "bfloat16", "--overwrite"]) == 0
    assert json.loads((out / "import.json").read_text())["dtype"] == "bfloat16"
    (out / "mine").write_text("mine")
    assert cli.main(["import-hf", str(t5), str(out), "--overwrite"]) == 2
    assert "other files (mine)" in capsys.readouterr().err and (out / "mine").exists()
