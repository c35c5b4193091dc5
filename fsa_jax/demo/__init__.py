"""The demo: runs and measures the whole flow on generated data, in minutes on a laptop (docs/demo.md)."""
