"""Readers of review dumps and rating-stratified sampling."""
