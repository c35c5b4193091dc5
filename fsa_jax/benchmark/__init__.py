"""Whole evaluations: what distillation is worth, measured with students and labelled sentences."""
