"""The embedded demo: the whole flow on a generated world, measured, in minutes on a laptop (docs/demo.md)."""
