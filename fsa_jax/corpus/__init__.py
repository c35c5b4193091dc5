"""Builds a training corpus from checked teacher text: selection of rows, held-out reviews, statistics."""
