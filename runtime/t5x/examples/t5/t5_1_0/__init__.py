"""Gin files of T5 v1.0 (arXiv 1910.10683), one a size.

A package, so that gin finds them wherever the engine is installed.
"""
