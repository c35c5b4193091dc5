"""The contenders of benchmarks/training_step.py, each a process of its own."""
