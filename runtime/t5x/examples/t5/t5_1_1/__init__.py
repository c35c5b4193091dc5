"""Gin files of T5 v1.1, one per size; a package, so that gin finds the files of an installed engine."""
