"""A decoder-only language model of T5's layers."""
