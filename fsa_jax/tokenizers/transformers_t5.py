"""Converts a T5 student's SentencePiece model to a transformers tokenizer. Needs transformers, but not PyTorch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fsa_jax.tokenizers.t5 import EXTRA_IDS


def t5_tokenizer(directory: Path) -> Any:
    """The transformers tokenizer of the ``spiece.model`` in a model's directory, with T5's extra ids after the pieces.

    transformers treats the pieces of any T5 model as a unigram model. A byte-pair model, such as the demo's, must be
    converted to a tokenizer that merges pieces in the order of their training.
    """
    from sentencepiece import sentencepiece_model_pb2
    from transformers import AutoTokenizer

    # Any, because the code that protoc generates has no types.
    model: Any = sentencepiece_model_pb2.ModelProto()  # pyright: ignore[reportAttributeAccessIssue]
    model.ParseFromString((directory / "spiece.model").read_bytes())
    if model.trainer_spec.model_type == model.trainer_spec.BPE:
        return _byte_pairs(model)
    return AutoTokenizer.from_pretrained(str(directory), trust_remote_code=False)


def _byte_pairs(model: Any) -> Any:
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast
    from transformers.convert_slow_tokenizer import generate_merges

    pieces = [piece.piece for piece in model.pieces]
    vocab = {piece: i for i, piece in enumerate(pieces)}
    merges = generate_merges(vocab, {piece.piece: piece.score for piece in model.pieces})
    pad, end, unknown = (pieces[i] for i in range(3))
    tokenizer: Any = Tokenizer(models.BPE(vocab=vocab, merges=merges, unk_token=unknown, fuse_unk=True))
    if model.normalizer_spec.precompiled_charsmap:
        tokenizer.normalizer = normalizers.Precompiled(model.normalizer_spec.precompiled_charsmap)
    # As in T5: every word, also the first one, starts with a space, and a run of spaces becomes one.
    spaces: dict[str, Any] = {"replacement": "▁", "prepend_scheme": "always", "split": True}
    words = [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace(**spaces)]
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(words)
    tokenizer.decoder = decoders.Metaspace(**spaces)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=["$A", end], pair=["$A", end, "$B", end], special_tokens=[(end, vocab[end])]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=pad,
        eos_token=end,
        unk_token=unknown,
        additional_special_tokens=[f"<extra_id_{i}>" for i in reversed(range(EXTRA_IDS))],
    )
