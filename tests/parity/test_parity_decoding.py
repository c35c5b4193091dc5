"""Compares greedy and beam search with ``generate`` of PyTorch transformers, on real sentences with padding."""

# pyright: reportMissingImports=false

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
from small_models import FAMILIES, T5_FAMILIES, load, padded, token_rows

from fsa_base.networks.llama.network import LlamaTransformer
from fsa_base.networks.t5.network import Transformer
from fsa_jax.serving.jax_decoding import Decoding
from fsa_jax.serving.student import generator_of

LENGTH = 24
SHARE = 0.3


def torch_decodes(model: Any, rows: list[list[int]], beams: int, end: int | None) -> list[list[int]]:
    """The tokens that ``generate`` appends to each row, including the end token."""
    import torch

    is_t5 = model.config.model_type == "t5"
    ids, mask = padded(rows, left=not is_t5)
    with torch.no_grad():
        decoded = model.generate(
            input_ids=torch.tensor(ids, dtype=torch.long),
            attention_mask=torch.tensor(mask),
            max_new_tokens=LENGTH,
            do_sample=False,
            num_beams=beams,
            eos_token_id=end,
            pad_token_id=0,
        ).numpy()
    decoded = decoded[:, 1 if is_t5 else ids.shape[1] :].tolist()
    return [row[: row.index(end) + 1] if end in row else row for row in decoded]


def with_likely_end(model: Any, rows: list[list[int]], end: int) -> Any:
    """The model with one output row changed, so that its outputs end after a few tokens.

    With random weights the end token is hardly ever the best. Its output row is set to the mean of the states before
    the output layer, scaled so that its logit is the largest in a share SHARE of the states.
    """
    import torch

    model = copy.deepcopy(model)
    is_t5 = model.config.model_type == "t5"
    ids, mask = padded(rows, left=not is_t5)
    states: list[Any] = []
    watch = model.lm_head.register_forward_pre_hook(lambda _, inputs: states.append(inputs[0][:, -1]))
    with torch.no_grad():
        tokens, seen = torch.tensor(ids, dtype=torch.long), torch.tensor(mask)
        model.generate(input_ids=tokens, attention_mask=seen, max_new_tokens=8, do_sample=False, eos_token_id=None)
        watch.remove()
        # The common part of the first states is removed: with it, all outputs would end at once, or none.
        first = torch.nn.functional.normalize(states[0].mean(0), dim=0)
        found = torch.cat(states[1:])
        mean = found.mean(0)
        mean = mean - (mean @ first) * first
        others, toward = model.lm_head(found).amax(-1), found @ mean
        model.lm_head.weight[end] = mean * (others / toward)[toward > 0].quantile(SHARE)
    return model


@pytest.mark.parametrize("family", FAMILIES)
def test_decodes_are_those_of_transformers(family, torch_model, sentence_ids, tmp_path):
    model, _ = torch_model(family)
    rows, end = token_rows(sentence_ids, model.config.vocab_size), 2
    model = with_likely_end(model, rows, end)
    model.save_pretrained(tmp_path)
    config, parameters = load(tmp_path)
    is_t5 = family in T5_FAMILIES
    for beams in (1, 4):
        expected = torch_decodes(model, rows, beams, end)
        lengths = {len(row) for row in expected if row[-1] == end}
        assert len(lengths) > 1, "the comparison needs outputs that end, at different lengths"
        generate = generator_of(
            Transformer(config) if is_t5 else LlamaTransformer(config),
            parameters,
            decoder_only=not is_t5,
            end_ids=(end,),
            rows=model.config.vocab_size,
            decoding=Decoding(LENGTH, beams),
        )
        found = [output.ids for output in generate(rows)]
        different = [i for i, (ours, theirs) in enumerate(zip(found, expected, strict=True)) if ours != theirs]
        first = [(found[i], expected[i]) for i in different[:1]]
        assert not different, f"{len(different)} of {len(rows)} with {beams} beams, the first {first}"


def test_outputs_do_not_depend_on_the_other_rows(torch_model, sentence_ids):
    model, directory = torch_model("qwen3")
    rows = token_rows(sentence_ids[::8], model.config.vocab_size)
    config, parameters = load(directory)
    generate = generator_of(
        LlamaTransformer(config),
        parameters,
        decoder_only=True,
        end_ids=(2,),
        rows=512,
        decoding=Decoding(LENGTH),
    )
    together = generate(rows)
    alone = [generate([row])[0] for row in rows]
    assert [output.ids for output in together] == [output.ids for output in alone]
    np.testing.assert_allclose([output.score for output in together], [output.score for output in alone], atol=1e-3)
