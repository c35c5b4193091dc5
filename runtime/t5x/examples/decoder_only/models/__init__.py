"""Gin files of the decoder-only language model, one a size.

A package, so that gin finds them wherever the engine is installed.
"""
