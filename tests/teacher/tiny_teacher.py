"""Makes a very small chat model: two random Qwen2 layers and a tokenizer trained on a few reviews.

Used by the tests of the vLLM sidecar and by its benchmark, in the teacher's environment:

    python tests/teacher/tiny_teacher.py FOLDER
"""

# torch is only in the teacher's environment.
# pyright: reportMissingImports=false

from __future__ import annotations

import sys
from pathlib import Path

CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
_TEXTS = [
    "The soup was lovely, but we waited fifty minutes for a table by the door.",
    'Opinion Target 1: "soup"\nAspect: Taste\nSentiment: Very Positive\nReasoning: "lovely" says so.',
    "The keyboard of this laptop feels cheap and its battery lasts an hour; the screen is bright.",
    "system user assistant List the opinions in the review above.",
]


def build(folder: Path) -> Path:
    """Writes the model and its tokenizer; returns the folder."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    trainer = trainers.BpeTrainer(
        vocab_size=512, special_tokens=special, initial_alphabet=pre_tokenizers.ByteLevel.alphabet()
    )
    tokenizer.train_from_iterator(_TEXTS, trainer)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|im_end|>", pad_token="<|endoftext|>")
    fast.chat_template = CHAT_TEMPLATE
    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=512,
        hidden_size=128,
        intermediate_size=256,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=4096,
        eos_token_id=special.index("<|im_end|>"),
        pad_token_id=special.index("<|endoftext|>"),
    )
    Qwen2ForCausalLM(config).save_pretrained(folder)
    fast.save_pretrained(folder)
    return folder


if __name__ == "__main__":
    print(build(Path(sys.argv[1])))
