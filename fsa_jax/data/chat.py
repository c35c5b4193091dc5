"""Prompts and responses of decoder-only students in SeqIO: vocabulary, preprocessor, feature converter.

SeqIO uses id 0 for padding, but in Llama 3 and Qwen it is an ordinary token (``!``). So all ids are raised by one
before SeqIO packs or pads them, and lowered again afterwards.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping
from typing import Any

import seqio
import tensorflow as tf

from fsa_jax.data.task_builders import OrderedTask
from fsa_jax.tokenizers.chat import ChatTokenizer
from fsa_jax.weights.llama import student_directory

_ANY_LENGTH = 1 << 20
_COLUMNS = ("decoder_input_tokens", "decoder_target_tokens", "decoder_loss_weights", "decoder_causal_attention")


class ChatVocabulary(seqio.Vocabulary):
    """The tokenizer of a decoder-only student. It is read at the first use, so registering a task does not need it.

    Args:
      directory: output directory of ``fsa import-hf``; ``$FSA_STUDENT`` by default.
      instruction: text before the review in the user's turn.
    """

    def __init__(self, directory: str | None = None, instruction: str = "") -> None:
        super().__init__(extra_ids=0)
        self._directory = directory
        self._instruction = instruction

    @functools.cached_property
    def tokenizer(self) -> ChatTokenizer:
        """The tokenizer with its chat template."""
        return ChatTokenizer(student_directory(self._directory), self._instruction)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "tokenizer"}

    @property
    def eos_id(self) -> int:
        return self.tokenizer.end_id

    @property
    def unk_id(self) -> int | None:
        return None

    @property
    def _base_vocab_size(self) -> int:
        return self.tokenizer.size

    def _encode(self, s: str) -> list[int]:
        return self.tokenizer.encode_target(s)[:-1]

    def _decode(self, ids: Iterable[int]) -> str:
        return self.tokenizer.decode(list(ids))

    def _encode_tf(self, s: tf.Tensor) -> tf.Tensor:
        ids = tf.py_function(lambda text: self._encode(text.numpy().decode()), [s], tf.int32)
        return tf.ensure_shape(ids, [None])

    def _decode_tf(self, ids: tf.Tensor) -> tf.Tensor:
        return tf.py_function(lambda row: self._decode(row.numpy().tolist()), [ids], tf.string)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, ChatVocabulary) or self._instruction != other._instruction:
            return False
        if self._directory == other._directory:
            return True
        return student_directory(self._directory).resolve() == student_directory(other._directory).resolve()

    def __hash__(self) -> int:
        return hash((type(self), self._instruction))


def chat_turns(
    dataset: tf.data.Dataset, output_features: Mapping[str, Any], sequence_length: Mapping[str, int] | None = None
) -> tf.data.Dataset:
    """Converts texts to ids: ``inputs`` become the turns before the answer, ``targets`` the answer and its end token.

    If a text is too long for ``sequence_length``, it is cut so that the template around a review, or the end token of
    an answer, stays complete.
    """
    vocabulary: ChatVocabulary = output_features["targets"].vocabulary
    lengths = sequence_length or {}
    longest, longest_answer = (lengths.get(name) or _ANY_LENGTH for name in ("inputs", "targets"))

    def encode(review: Any, answer: Any) -> tuple[list[int], list[int]]:
        prompt, _ = vocabulary.tokenizer.encode_input(review.numpy().decode(), longest)
        response = vocabulary.tokenizer.encode_target(answer.numpy().decode())
        return prompt, [*response[:-1][: longest_answer - 1], response[-1]]

    def turns(example: Mapping[str, Any]) -> dict[str, Any]:
        texts = [example["inputs"], example["targets"]]
        prompt, response = tf.py_function(encode, texts, (tf.int32, tf.int32))
        return {
            **example,
            "inputs_pretokenized": example["inputs"],
            "targets_pretokenized": example["targets"],
            "inputs": tf.ensure_shape(prompt, [None]),
            "targets": tf.ensure_shape(response, [None]),
        }

    return dataset.map(turns, num_parallel_calls=1)


class ChatFeatureConverter(seqio.FeatureConverter):
    """Joins prompt and response to one sequence, with a loss on the response only.

    Unlike SeqIO's prefix language model, this adds no token at the start: the chat template begins with the token that
    the model saw first in pretraining. For a prompt ``[9, 4, 6]`` and a response ``[3, 2]``::

        decoder_input_tokens      9 4 6 3
        decoder_target_tokens     4 6 3 2
        decoder_loss_weights      0 0 1 1
        decoder_causal_attention  1 1 1 0
    """

    TASK_FEATURES = {  # noqa: RUF012
        "inputs": seqio.FeatureConverter.FeatureSpec(dtype=tf.int32),
        "targets": seqio.FeatureConverter.FeatureSpec(dtype=tf.int32),
    }
    MODEL_FEATURES = {name: seqio.FeatureConverter.FeatureSpec(dtype=tf.int32) for name in _COLUMNS}  # noqa: RUF012
    PACKING_FEATURE_DTYPES = {"decoder_segment_ids": tf.int32, "decoder_positions": tf.int32}  # noqa: RUF012

    def get_model_feature_lengths(self, task_feature_lengths: Mapping[str, int]) -> dict[str, int]:
        """The length of every feature: the longest prompt plus the longest response."""
        names = (*_COLUMNS, *(self.PACKING_FEATURE_DTYPES if self.pack else ()))
        return dict.fromkeys(names, task_feature_lengths["inputs"] + task_feature_lengths["targets"])

    def _convert_features(self, ds: tf.data.Dataset, task_feature_lengths: Mapping[str, int]) -> tf.data.Dataset:
        def join(example: Mapping[str, Any]) -> dict[str, Any]:
            prompt, response = (tf.cast(example[name], tf.int32) for name in ("inputs", "targets"))
            whole = tf.concat([prompt, response], axis=0)
            position, prompt_length = tf.range(tf.size(whole) - 1), tf.size(prompt)
            columns = {
                "decoder_input_tokens": whole[:-1],
                "decoder_target_tokens": whole[1:],
                "decoder_loss_weights": tf.cast(position >= prompt_length - 1, tf.int32),
                "decoder_causal_attention": tf.cast(position < prompt_length, tf.int32),
            }
            return {name: column + 1 for name, column in columns.items()}

        def lower(example: Mapping[str, Any]) -> dict[str, Any]:
            features = {name: tf.maximum(example[name] - 1, 0) for name in _COLUMNS}
            if self.pack:
                for name in self.PACKING_FEATURE_DTYPES:
                    column = name.replace("decoder", "decoder_target_tokens")
                    features[name] = tf.cast(example[column], tf.int32)
            return features

        lengths = {name: self.get_model_feature_lengths(task_feature_lengths)[name] for name in _COLUMNS}
        return self._pack_or_pad(ds.map(join, num_parallel_calls=tf.data.AUTOTUNE), lengths).map(lower)


def add_chat(
    name: str,
    source: seqio.DataSource,
    vocabulary: ChatVocabulary,
    **arguments: Any,
) -> seqio.Task:
    """Registers a task from reviews to answers for decoder-only students."""
    features = {part: seqio.Feature(vocabulary, add_eos=False) for part in ("inputs", "targets")}
    task = OrderedTask(name, source, features, (chat_turns,), **arguments)
    seqio.TaskRegistry.add_provider(name, task)
    return task
