"""Gin files of T5 v1.1, one a size; a package, so that gin finds them wherever the engine is installed."""
