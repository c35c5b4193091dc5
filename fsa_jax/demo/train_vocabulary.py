"""Trains a small SentencePiece model for the demo's student on its reviews and teacher text."""

from __future__ import annotations

import io
import json
import random
import tempfile
from collections.abc import Iterator
from pathlib import Path

import sentencepiece

from fsa_jax.common.records import POLARITIES
from fsa_jax.synthetic.files import RESPONSE_KEY
from fsa_jax.text.pairs import DELIMITER, SEPARATOR, write_pairs

_QUOTATION_MARK_APART = "22\t20 22 20\n"
"""A SentencePiece normalisation rule in hexadecimal code points: puts a space before and after a quotation mark."""

_ROWS = 5_000
"""Number of rows from which the pieces are learned; more rows hardly change the pieces."""


def train(teacher_text: Path, pieces: int, destination: Path) -> None:
    """Trains a byte-pair model with T5's special ids on teacher rows, and writes it atomically.

    Labelled sentences are not used, because both students share the vocabulary. The separators and polarities of the
    pair codecs, which the teacher does not write, are added as pieces, so that students need not spell them. Quotation
    marks are separated by spaces, so that a quoted word has the same pieces as in the review. The model is byte-pair,
    because the unigram trainer leaves out words that occur only before a space, and here these are the most frequent.
    """
    model = io.BytesIO()
    with tempfile.NamedTemporaryFile("w", suffix=".tsv") as rules:
        rules.write(_QUOTATION_MARK_APART)
        rules.flush()
        _train(teacher_text, pieces, model, Path(rules.name))
    destination.parent.mkdir(parents=True, exist_ok=True)
    aside = destination.with_suffix(".tmp")
    aside.write_bytes(model.getvalue())
    aside.replace(destination)


def _train(teacher_text: Path, pieces: int, model: io.BytesIO, rules: Path) -> None:
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=_texts(teacher_text),
        model_writer=model,
        vocab_size=pieces,
        model_type="bpe",
        normalization_rule_tsv=str(rules),
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=-1,
        character_coverage=1.0,
        required_chars=SEPARATOR + DELIMITER,
        # One thread and a fixed order of texts, so that the same generated data give the same pieces.
        num_threads=1,
        minloglevel=2,
    )


def _texts(teacher_text: Path) -> Iterator[str]:
    with teacher_text.open(encoding="utf-8-sig") as lines:
        rows = [json.loads(line) for line in lines]
    chosen = random.Random(0).sample(rows, min(_ROWS, len(rows)))
    for row in chosen:
        yield row["Text"]
        yield from filter(None, row[RESPONSE_KEY].split("\n"))
        yield write_pairs(("", polarity) for polarity in POLARITIES)
