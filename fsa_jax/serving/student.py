"""Loads a student for prediction or export: configuration, parameters and tokenizer, from any supported directory."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict
from jaxtyping import Array, Int

from fsa_base.errors import CheckpointError, SettingError, VocabularyError
from fsa_jax.serving.ct2 import DESCRIPTION
from fsa_jax.serving.jax_decoding import Decoding, Generator, Greedy
from fsa_jax.tokenizers import Tokenizer
from fsa_jax.tokenizers.chat import ChatTokenizer
from fsa_jax.tokenizers.t5 import ROW_PADDING, T5Tokenizer, find_vocabulary
from fsa_jax.weights import t5
from fsa_jax.weights.families import family_of, open_model
from fsa_jax.weights.hf_files import CONFIG, HF_FILES, read_config
from fsa_jax.weights.hf_mapping import Family, materialise
from fsa_jax.weights.weight_checkpoints import find_checkpoint, load_weights, step_of


@dataclass(frozen=True)
class Student:
    """A loaded student.

    Attributes:
      path: checkpoint or Hugging Face directory of the parameters.
      step: training step; 0 for imported weights.
      family: model family (T5, or Llama and Qwen).
      config: configuration of the network, with float32 activations.
      parameters: nested dictionary of float32 arrays in host memory.
      hf_config: content of the imported config.json; empty for a T5 trained from scratch.
      hf_files: directory with the imported files (tokenizer …); None if there is none.
      tokens: tokenizer, which converts text to ids and back.
      rows: number of embedding rows that belong to ids; the rows after them are padding.
    """

    path: Path
    step: int
    family: Family
    config: Any
    parameters: dict[str, Any]
    hf_config: dict[str, Any]
    hf_files: Path | None
    tokens: Tokenizer
    rows: int

    @property
    def module(self) -> Any:
        """The network."""
        return self.family.module(self.config)

    def generator(self, decoding: Decoding) -> Generator:
        """A generator that decodes with this student."""
        return generator_of(
            self.module,
            self.parameters,
            decoder_only=self.tokens.decoder_only,
            end_ids=self.tokens.end_ids,
            rows=self.rows,
            decoding=decoding,
            prefix=self.tokens.prefix if isinstance(self.tokens, ChatTokenizer) else (),
        )

    def untrained(self, seed: int) -> Student:
        """The same student with random weights, those with which a training from scratch starts.

        Args:
          seed: random seed of the weights.
        """
        return dataclasses.replace(self, step=0, parameters=_random_parameters(self.family, self.config, seed))


def untrained_t5(config: t5.T5Config, *, vocabulary: Path | None = None, seed: int = 0) -> Student:
    """A T5 with random weights, those with which a training from scratch starts.

    Args:
      config: its configuration.
      vocabulary: SentencePiece model; by default FSA_VOCAB, else the one in the data directory.
      seed: random seed of the weights.

    Raises:
      VocabularyError: the vocabulary does not fit the configuration.
    """
    config = dataclasses.replace(config, dtype=jnp.float32)
    rows = config.vocab_size
    tokens = _tokens(t5.FAMILY, None, vocabulary, rows, "")
    parameters = _random_parameters(t5.FAMILY, config, seed)
    return Student(Path("scratch"), 0, t5.FAMILY, config, parameters, {}, None, tokens, rows)


def _random_parameters(family: Family, config: Any, seed: int) -> dict[str, Any]:
    ones = jnp.ones((1, 4), jnp.int32)
    inputs = (ones,) if family.decoder_only else (ones, ones, ones)
    init = jax.jit(partial(family.module(config).init, enable_dropout=False))
    return jax.tree.map(np.asarray, init(jax.random.PRNGKey(seed), *inputs)["params"])


def load_student(
    model: Path, *, base: Path | None = None, vocabulary: Path | None = None, instruction: str = ""
) -> Student:
    """Loads a student.

    Args:
      model: a checkpoint, a directory of checkpoints (the newest is used), an output directory of ``fsa import-hf``, or
        a Hugging Face directory with safetensors.
      base: for a trained decoder-only student, the output directory of ``fsa import-hf`` from which training started
        (or any directory with its config.json and tokenizer).
      vocabulary: SentencePiece model of a T5 student; by default the one next to the weights, else FSA_VOCAB, else the
        one in the data directory.
      instruction: text before the review in the user's turn, for a decoder-only student that was trained with one.

    Raises:
      FsaError: a file is missing or damaged, or files do not belong together.
    """
    if not model.exists():
        raise CheckpointError(model, expected="a model", found="nothing", fix="check the path")
    if (model / DESCRIPTION).is_file():
        raise CheckpointError(
            model,
            expected="weights that JAX can read",
            found="an output of fsa export-ct2",
            fix="predict with it without --engine and --base; to export, give the checkpoint itself",
        )
    if (model / CONFIG).is_file():
        return _from_hf(model, vocabulary, instruction)
    checkpoint = find_checkpoint(model)
    parameters = load_weights(checkpoint)
    files = _hf_files(base) if base else _beside(checkpoint)
    content = read_config(files) if files else {}
    if content:
        family = family_of(content)
        config = dataclasses.replace(family.config(content, None), scan_layers=_is_stacked(parameters))
    else:
        family, config = t5.FAMILY, t5.config_from_parameters(parameters)
    rows = int(content.get("vocab_size", config.vocab_size))
    tokens = _tokens(family, files, vocabulary, rows, instruction)
    _check_shapes(checkpoint, family, config, parameters)
    step = step_of(checkpoint)
    return Student(checkpoint, step, family, config, parameters, content, files, tokens, rows)


def _from_hf(directory: Path, vocabulary: Path | None, instruction: str) -> Student:
    model = open_model(directory)
    parameters = materialise(model.parameters(np.float32))
    tokens = _tokens(model.family, directory, vocabulary, model.rows, instruction)
    return Student(directory, 0, model.family, model.config, parameters, model.content, directory, tokens, model.rows)


def _hf_files(base: Path) -> Path:
    for candidate in (base, base / HF_FILES, base.parent / HF_FILES):
        if (candidate / CONFIG).is_file():
            return candidate
    raise SettingError(
        f"--base {base}",
        expected="a directory with config.json and the tokenizer",
        found="none there",
        fix="give an output directory of fsa import-hf, or a Hugging Face directory",
    )


def _beside(checkpoint: Path) -> Path | None:
    directory = checkpoint.parent / HF_FILES
    return directory if (directory / CONFIG).is_file() else None


def _is_stacked(parameters: dict[str, Any]) -> bool:
    return "layers" in parameters.get("decoder", {})


def _tokens(family: Family, files: Path | None, vocabulary: Path | None, rows: int, instruction: str) -> Tokenizer:
    if family.decoder_only:
        assert files is not None  # Decoder-only students always have a config.json.
        return ChatTokenizer(files, instruction)
    if instruction:
        raise SettingError(
            "instruction", expected="none: a T5 student reads only the review", found=repr(instruction), fix="omit it"
        )
    beside = files / "spiece.model" if files else None
    if vocabulary is None:
        vocabulary = beside if beside and beside.is_file() else find_vocabulary()
    tokens = T5Tokenizer(vocabulary)
    # Rows are padded to a multiple of 128. A vocabulary next to a student belongs to it, whatever the number of rows.
    fewest = 0 if vocabulary == beside else rows - ROW_PADDING + 1
    if not fewest <= tokens.size <= rows + 1:
        raise VocabularyError(
            vocabulary,
            expected=f"{max(1, fewest)} to {rows} ids, for the rows of the model's embedding",
            found=f"{tokens.size - 1} pieces and extra ids",
            fix="give the vocabulary that the student was trained with: --vocabulary FILE",
        )
    return tokens


def _check_shapes(checkpoint: Path, family: Family, config: Any, parameters: dict[str, Any]) -> None:
    from fsa_jax.weights.hf_mapping import write_parameters

    try:
        write_parameters(family, config, parameters, np.float32)
    except CheckpointError as error:
        raise CheckpointError(
            checkpoint, expected=error.expected, found=f"{error.where}: {error.found}", fix=error.fix
        ) from error


def read_json(file: Path) -> dict[str, Any]:
    """The content of a JSON file that this project wrote; {} if the file does not exist."""
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}


def generator_of(
    module: Any,
    parameters: Any,
    *,
    decoder_only: bool,
    end_ids: Sequence[int],
    rows: int,
    decoding: Decoding,
    prefix: Sequence[int] = (),
) -> Generator:
    """A generator that decodes with one network and one set of parameters.

    Args:
      module: ``Transformer`` or ``LlamaTransformer``.
      parameters: parameters of the module.
      decoder_only: whether the module is decoder-only (``LlamaTransformer``).
      end_ids: ids that end an output; outputs always show the first of them.
      rows: number of real ids; this and higher ids are padding of the embedding and are never chosen.
      decoding: settings of decoding.
      prefix: ids with which prompts begin, so that they are read once; for a decoder-only module.
    """
    read, step = (_read_prompts, _step_prompts) if decoder_only else (_encode, _step_encoded)
    offset, length = int(module.scan_layers), decoding.max_length
    if decoding.beams == 1:
        search = partial(Greedy.start, length=length)
    else:
        from fsa_jax.serving.beam_search import BeamSearch

        options = {"beams": decoding.beams, "length_penalty": decoding.length_penalty, "offset": offset}
        search = partial(BeamSearch.start, length=length, **options)
    return Generator(
        parameters,
        read=partial(read, module),
        step=partial(step, module),
        search=search,
        offset=offset,
        decoder_only=decoder_only,
        end_ids=end_ids,
        rows=rows,
        length=length,
        prefix=prefix,
        read_prefix=partial(_read_prefix, module),
    )


def _encode(
    module: Any, variables: Any, inputs: Int[Array, "batch length"], mask: Int[Array, "batch length"]
) -> tuple[Int[Array, "batch 1"], Any]:
    """The beginning token of each row, and a cache with a place for it and the encoder's output for attention."""
    del mask  # Padding is id 0.
    encoded = module.apply(variables, inputs, enable_dropout=False, method=module.encode)
    tokens = jnp.zeros_like(inputs[:, :1])
    _, filled = module.apply(
        variables,
        encoded,
        inputs,
        tokens,
        tokens,
        enable_dropout=False,
        prefill=True,
        prefill_lengths=tokens[:, 0],
        mutable=["cache"],
        method=module.decode,
    )
    return tokens, filled["cache"]


def _step_encoded(
    module: Any, variables: Any, inputs: Int[Array, "batch length"], last: Array, cache: Any
) -> tuple[Array, Any]:
    leaves = jax.tree_util.tree_leaves_with_path(cache)
    keys = (leaf for path, leaf in leaves if jax.tree_util.keystr(path[-1:], simple=True) == "cached_key")
    logits, changed = module.apply(
        {**variables, "cache": cache},
        None,  # What attention needs of the encoder's output is in the cache.
        inputs,
        last,
        last,
        enable_dropout=False,
        decode=True,
        max_decode_length=next(keys).shape[-1],
        mutable=["cache"],
        method=module.decode,
    )
    return jnp.squeeze(logits, axis=1), changed["cache"]


def _read_prompts(
    module: Any, variables: Any, inputs: Int[Array, "batch length"], mask: Int[Array, "batch length"]
) -> tuple[Int[Array, "batch 1"], Any]:
    """The last token of each prompt, and a cache with the others.

    Prompts are padded on the left, so that all prompts end, and all answers start, in the same column.
    """
    # The first decoding step processes the last token of the prompt; its logits choose the first token of the answer.
    _, filled = module.apply(
        variables,
        inputs,
        decoder_segment_ids=mask,
        enable_dropout=False,
        prefill=True,
        prefill_lengths=jnp.full((inputs.shape[0],), inputs.shape[1] - 1),
        mutable=["cache"],
    )
    return inputs[:, -1:], filled["cache"]


def _read_prefix(module: Any, variables: Any, prefix: Int[Array, "1 length"]) -> Any:
    """The keys and values of a prefix that prompts share, as the network's collection ``prefix``."""
    _, filled = module.apply(variables, prefix, enable_dropout=False, prefill=True, mutable=["cache"])
    kept = {
        (*path[:-1], path[-1].removeprefix("cached_")): leaf
        for path, leaf in flatten_dict(filled["cache"]).items()
        if path[-1] in ("cached_key", "cached_value")
    }
    return unflatten_dict(kept)


def _step_prompts(
    module: Any, variables: Any, inputs: Int[Array, "batch length"], last: Array, cache: Any
) -> tuple[Array, Any]:
    del inputs  # They are in the cache.
    logits, changed = module.apply(
        {**variables, "cache": cache}, last, enable_dropout=False, decode=True, mutable=["cache"]
    )
    return jnp.squeeze(logits, axis=1), changed["cache"]
