"""A prefix that prompts share is read once; outputs, scores and log-probabilities are those of whole prompts."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fsa_base.networks.llama.config import LlamaConfig
from fsa_base.networks.llama.network import LlamaTransformer
from fsa_jax.serving.jax_decoding import Decoding, Generator
from fsa_jax.serving.student import generator_of
from fsa_jax.tokenizers.chat import ChatTokenizer
from tests.parity.small_models import write_tokenizer

CONFIG = LlamaConfig(
    vocab_size=96, emb_dim=32, num_heads=4, num_kv_heads=2, num_layers=2, head_dim=8, mlp_dim=48, query_key_norm=True
)
PREFIX = [7, 0, 31, 5, 5, 60, 2, 19, 44]
ENDS = (3, 11, 23, 40, 58, 77)
"""So many that outputs end early."""


def parameters(scan_layers: bool) -> tuple[Any, Any]:
    config = dataclasses.replace(CONFIG, scan_layers=scan_layers)
    module = LlamaTransformer(config)
    made = module.init(jax.random.PRNGKey(0), jnp.ones((1, 4), jnp.int32), enable_dropout=False)["params"]
    # Larger than initial ones, so that attention matters and the most likely token is not the last one.
    return module, jax.tree.map(lambda leaf: 4 * leaf if leaf.ndim > 1 else leaf, made)


def generator(scan_layers: bool, decoding: Decoding, prefix: Sequence[int]) -> Generator:
    module, made = parameters(scan_layers)
    return generator_of(module, made, decoder_only=True, end_ids=ENDS, rows=90, decoding=decoding, prefix=prefix)


def prompts(count: int, prefix: list[int]) -> list[list[int]]:
    draw = np.random.default_rng(0)
    return [[*prefix, *draw.integers(4, 90, draw.integers(1, 50)).tolist()] for _ in range(count)]


@pytest.mark.parametrize(("scan_layers", "beams", "batch_size"), [(False, 1, 24), (True, 1, 8), (False, 3, 8)])
def test_outputs_are_those_of_whole_prompts(scan_layers: bool, beams: int, batch_size: int):
    inputs = prompts(24, PREFIX)
    decoding = Decoding(20, beams=beams)
    wanted = generator(scan_layers, decoding, ())(inputs, batch_size=batch_size)
    shared = generator(scan_layers, decoding, PREFIX)
    found = shared(inputs, batch_size=batch_size)
    assert shared.prefix_is_read
    ends = {len(output.ids) for output in wanted}
    assert len(ends) > 2, "the comparison needs outputs of several lengths"
    assert [output.ids for output in found] == [output.ids for output in wanted]
    for ours, theirs in zip(found, wanted, strict=True):
        np.testing.assert_allclose(ours.score, theirs.score, atol=1e-4)
        np.testing.assert_allclose(ours.log_probs, theirs.log_probs, atol=1e-4)


def test_prompts_without_the_prefix_are_read_whole():
    """Also one that ends where the prefix ends, and so leaves nothing to read after it."""
    inputs = [PREFIX, *prompts(5, PREFIX), [*PREFIX[:-1], 1, 50], *prompts(2, PREFIX)]
    wanted = [output.ids for output in generator(False, Decoding(12), ())(inputs)]
    shared = generator(False, Decoding(12), PREFIX)
    assert [output.ids for output in shared([inputs[0], inputs[6]])] == [wanted[0], wanted[6]]
    assert not shared.prefix_is_read
    assert [output.ids for output in shared(inputs)] == wanted
    assert shared.prefix_is_read


def test_the_prefix_of_a_chat_template_ends_where_the_review_begins(tmp_path: Path):
    write_tokenizer(tmp_path)
    tokens = ChatTokenizer(tmp_path, "Name what they liked.")
    text = "<|im_start|>user\nName what they liked.\n\n"
    assert list(tokens.prefix) == tokens._ids(text)
    for review in ("Good soup.", "  indented", "\n", "<|im_end|>", "寿司"):
        assert tokens.encode_input(review, 200)[0][: len(tokens.prefix)] == list(tokens.prefix)
