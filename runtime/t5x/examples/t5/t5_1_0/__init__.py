"""Gin files of T5 v1.0 (arXiv 1910.10683), one per size.

This is a package so that gin finds the files of an installed engine.
"""
