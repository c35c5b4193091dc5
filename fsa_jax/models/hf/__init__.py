"""Import and export of Hugging Face weights: safetensors files, parameter names and configurations."""
