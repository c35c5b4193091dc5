"""The ablations that tasks.py registers, by the end of their tasks' names."""

from __future__ import annotations

from collections.abc import Mapping

from fsa_jax.data.corpus_source import Ablation

ABLATIONS: Mapping[str, Ablation] = {
    "_no_reasoning": Ablation(reasoning=False),
    # Share of opinions or sentences with something that the review lacks. Needs a corpus that still holds such rows:
    # fsa check --max-hallucination 1 --no-repair-analyses.
    "_grounded": Ablation(max_hallucination=0.0),
    "_hallucination_25": Ablation(max_hallucination=0.25),
    "_hallucination_50": Ablation(max_hallucination=0.5),
    "_implicit_0": Ablation(implicit_share=0.0),
    "_implicit_25": Ablation(implicit_share=0.25),
    "_implicit_50": Ablation(implicit_share=0.5),
    "_implicit_75": Ablation(implicit_share=0.75),
    "_implicit_100": Ablation(implicit_share=1.0),
    "_1k": Ablation(size=1_000),
    "_10k": Ablation(size=10_000),
    "_100k": Ablation(size=100_000),
    "_1m": Ablation(size=1_000_000),
}
"""``fsa_corpus_analysis_grounded``, ``fsa_corpus_rewriting_10k``, mixture ``fsa_corpus_implicit_50`` …"""
