"""Hugging Face weights in and out: safetensors files, parameter names and configurations, a tensor at a time."""
