"""Weights in and out: T5X checkpoints, safetensors files, and conversion from and to Hugging Face."""
