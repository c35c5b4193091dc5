"""The students' vocabulary: a SentencePiece model, 100 extra ids and the newline token ``[NL]``.

The released corpus and students write every newline as the added token ``[NL]`` (id 32100 with T5's 32,000 pieces).
SentencePiece alone would lose newlines, because it treats them as spaces.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import seqio
import tensorflow as tf

from fsa_base.errors import VocabularyError
from fsa_jax.tokenizers import t5


class ReviewVocabulary(seqio.Vocabulary):
    """SentencePiece with extra ids and a newline token, with the same result in Python and in the TensorFlow graph.

    Lines are encoded one by one, because the released tokenizer encodes the text between added tokens separately. The
    file is found and read at the first use, so registering a task does not need it; a pickle has only its path.

    Args:
      model_file: path of a SentencePiece model. If None, ``fsa_jax.tokenizers.t5`` finds one.
      extra_ids: number of ``<extra_id_N>`` tokens after the pieces.
    """

    def __init__(self, model_file: str | Path | None = None, extra_ids: int = t5.EXTRA_IDS) -> None:
        super().__init__(extra_ids=extra_ids)
        self._model_file = None if model_file is None else str(model_file)

    @property
    def model_file(self) -> str:
        """Path of the SentencePiece model."""
        return self._model_file or str(t5.find_vocabulary())

    @property
    def newline_id(self) -> int:
        """Id of ``[NL]``, the last one."""
        return self._pieces.vocab_size

    @property
    def eos_id(self) -> int:
        return self._pieces.eos_id or 0

    @property
    def unk_id(self) -> int:
        return self._pieces.unk_id or 0

    @property
    def vocab_size(self) -> int:
        """Number of ids: pieces, extra ids and ``[NL]``; 32,101 for T5."""
        return self._base_vocab_size

    @property
    def _base_vocab_size(self) -> int:
        # SeqIO replaces larger ids by the unknown id. The inner vocabulary counts the extra ids as pieces.
        return self.newline_id + 1

    @property
    def _pieces(self) -> seqio.SentencePieceVocabulary:
        if "_loaded" not in self.__dict__:
            self._loaded = _load(self.model_file, self._extra_ids)
        return self._loaded

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_loaded"}

    def _encode(self, s: str) -> list[int]:
        return t5.encode_lines(s, self.newline_id, self._pieces.tokenizer.EncodeAsIds)

    def _decode(self, ids: Iterable[int]) -> str:
        return t5.decode_lines(ids, self.newline_id, self._pieces.tokenizer.DecodeIds)

    def _encode_tf(self, s: tf.Tensor) -> tf.Tensor | tf.RaggedTensor:
        """Encodes a string (shape ``[]``) to int32 ids ``[length]``, or strings ``[n]`` to ragged ``[n, length]``."""
        texts: Any = tf.convert_to_tensor(s)
        if texts.shape.rank == 0:
            return self._encode_tf(texts[None])[0]
        lines: Any = tf.strings.split(texts, sep="\n")
        ids: Any = self._pieces.tf_tokenizer.tokenize(lines)
        newlines = tf.fill(tf.shape(lines.flat_values), self.newline_id)
        ended: Any = tf.concat([ids, lines.with_flat_values(newlines)[..., None]], axis=-1)
        return ended.merge_dims(1, 2)[:, :-1]

    def _decode_tf(self, ids: tf.Tensor | tf.RaggedTensor) -> tf.Tensor:
        """Decodes int32 ids ``[length]`` to a string, or ``[n, length]`` to strings ``[n]``."""
        if ids.shape.rank == 2:
            return tf.map_fn(self._decode_tf, ids, fn_output_signature=tf.string)
        is_newline: Any = tf.equal(ids, self.newline_id)
        line = tf.cumsum(tf.cast(is_newline, tf.int64))
        lines = tf.RaggedTensor.from_value_rowids(
            tf.boolean_mask(ids, ~is_newline),
            tf.boolean_mask(line, ~is_newline),
            nrows=tf.reduce_sum(tf.cast(is_newline, tf.int64)) + 1,
        )
        return tf.strings.reduce_join(self._pieces.tf_tokenizer.detokenize(lines), separator="\n")

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, ReviewVocabulary) or self._extra_ids != other._extra_ids:
            return False
        return self._model_file == other._model_file or self._digest == other._digest

    def __hash__(self) -> int:
        return hash((type(self), self._extra_ids))

    @property
    def _digest(self) -> str:
        return hashlib.sha256(Path(self.model_file).read_bytes()).hexdigest()

    def __str__(self) -> str:
        source = self._model_file or "the configured SentencePiece model"
        return f"ReviewVocabulary({source}, {self._extra_ids} extra ids and [NL])"

    __repr__ = __str__


@functools.lru_cache(maxsize=8)
def _load(model_file: str, extra_ids: int) -> seqio.SentencePieceVocabulary:
    pieces = seqio.SentencePieceVocabulary(model_file, extra_ids=extra_ids)
    try:
        special = (pieces.tokenizer.pad_id(), pieces.tokenizer.eos_id(), pieces.tokenizer.unk_id())
    except Exception as error:  # Protobuf and SentencePiece have no common class for errors of a bad file.
        raise VocabularyError(
            model_file,
            expected="a SentencePiece model",
            found=f"{type(error).__name__}: {error}",
            fix=f"set {t5.VOCABULARY_VARIABLE} to a SentencePiece model, or unset it to use T5's",
        ) from error
    if special != (0, 1, 2):
        raise VocabularyError(
            model_file,
            expected="ids 0, 1 and 2 for padding, end of text and unknown pieces, as in T5",
            found=", ".join(map(str, special)),
            fix="train it with pad_id=0, eos_id=1, unk_id=2, bos_id=-1",
        )
    return pieces


def t5_vocabulary(model_rows: int = t5.ROWS) -> ReviewVocabulary:
    """The vocabulary for a model with ``model_rows`` rows in its embedding; gin binds it to ``VOCABULARY``.

    Raises:
      VocabularyError: the vocabulary has more ids than the model has rows, or leaves 128 rows or more unused, so that
        the model must belong to another vocabulary.
    """
    vocabulary = ReviewVocabulary()
    unused = model_rows - vocabulary.vocab_size
    if not 0 <= unused < t5.ROW_PADDING:
        fitting = -(-vocabulary.vocab_size // t5.ROW_PADDING) * t5.ROW_PADDING
        raise VocabularyError(
            vocabulary.model_file,
            expected=f"a vocabulary for a model of {model_rows} rows",
            found=f"{vocabulary.vocab_size} ids with the extra ids and [NL]",
            fix=f"give the model {fitting} rows (--gin.VOCABULARY_ROWS={fitting}), or set {t5.VOCABULARY_VARIABLE} to "
            "the model's vocabulary",
        )
    return vocabulary
