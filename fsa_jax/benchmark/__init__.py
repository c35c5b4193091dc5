"""Whole evaluations, which say what distillation is worth: ``fsa benchmark`` fine-tunes and scores students, ``fsa
zero-shot`` scores students that were not fine-tuned."""
