"""Metrics, test subsets and reports."""
