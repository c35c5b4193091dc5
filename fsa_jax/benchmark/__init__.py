"""Whole evaluations of students: ``fsa benchmark`` fine-tunes and scores them; its runs are stored and resumed."""
