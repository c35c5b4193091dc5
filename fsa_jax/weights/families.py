"""The model families that can be imported, exported and served. Another one is added to FAMILIES."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fsa_base.errors import CheckpointError
from fsa_jax.weights import llama, t5
from fsa_jax.weights.hf_files import Tensor, open_directory, read_config
from fsa_jax.weights.hf_mapping import Family, read_parameters

FAMILIES: tuple[Family, ...] = (t5.FAMILY, llama.FAMILY)


def family_of(config: Mapping[str, Any]) -> Family:
    """The model family of a config.json.

    Raises:
      CheckpointError: the model belongs to no supported family.
    """
    model_type = config.get("model_type")
    for family in FAMILIES:
        if isinstance(model_type, str) and model_type in family.model_types:
            return family
    raise CheckpointError(
        "config.json: model_type",
        expected="one of " + ", ".join(name for family in FAMILIES for name in family.model_types),
        found=repr(model_type)[:80],
        fix="import T5 v1.0 or v1.1, Flan-T5, Llama-3.2, Qwen2.5 or Qwen3",
    )


@dataclass(frozen=True)
class HfModel:
    """The content of a Hugging Face directory; its tensors are not read yet.

    Attributes:
      content: content of config.json.
      family: model family (T5, or Llama and Qwen).
      config: configuration of the network.
      tensors: tensors by name; all tensors that the family needs are present.
      rows: number of rows of the embedding.
    """

    content: dict[str, Any]
    family: Family
    config: Any
    tensors: Mapping[str, Tensor]
    rows: int

    def parameters(self, dtype: Any, *, scan_layers: bool = False) -> dict[str, Any]:
        """The parameters; see ``hf_mapping.read_parameters``."""
        return read_parameters(self.family, self.config, self.tensors, dtype, scan_layers=scan_layers)


def open_model(directory: Path) -> HfModel:
    """Opens a Hugging Face directory: config.json and the headers of its safetensors.

    Raises:
      FsaError: a file is missing or damaged, or the files do not belong together.
    """
    content = read_config(directory)
    family = family_of(content)
    tensors = open_directory(directory)
    config = family.config(content, tensors)
    return HfModel(content, family, config, family.completed(content, tensors), content["vocab_size"])
