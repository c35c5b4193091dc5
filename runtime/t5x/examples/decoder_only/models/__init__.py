"""Gin files of the decoder-only language model, one per size.

This is a package so that gin finds the files of an installed engine.
"""
