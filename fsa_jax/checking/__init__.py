"""Checks of a teacher's generations: grounding in the review, facts, junk, verdicts, and the page that shows them."""
