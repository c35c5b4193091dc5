"""Decoder-only students: Llama-3.2, Qwen2.5 and Qwen3 as one Flax module."""
