"""Gin files of the decoder-only language model, one a size; a package, so that gin finds them wherever the engine is installed."""
