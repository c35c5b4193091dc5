"""Gin files of the engine, found as resources of this package."""
