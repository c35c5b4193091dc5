"""Ablations of the corpus: the ones that tasks.py registers, and a function that gin binds for any other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import seqio

from fsa_base.errors import SettingError
from fsa_jax.common.records import UNDERSTANDINGS, Understanding
from fsa_jax.data.corpus_source import Ablation, CorpusSource
from fsa_jax.data.task_builders import add_teacher_text

ABLATIONS: Mapping[str, Ablation] = {
    "_no_reasoning": Ablation(reasoning=False),
    # Only rows in which everything occurs in the review. It has an effect only if the corpus has other rows too:
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


def corpus_task(
    forms: Sequence[Understanding] = ("analysis", "rewriting"),
    reasoning: bool = True,
    max_hallucination: float = 1.0,
    implicit_share: float | None = None,
    size: int | None = None,
    seed: int = 0,
) -> str:
    """Registers the corpus with any ablation settings; gin can bind it in place of a task's name::

        from fsa_jax.data import ablations

        MIXTURE_OR_TASK_NAME = @ablations.corpus_task()
        ablations.corpus_task:
          forms = ["analysis"]
          max_hallucination = 0.1

    Args:
      forms: ``analysis``, ``rewriting`` or both; with both, their rows alternate.
      reasoning: whether analyses keep their reasoning.
      max_hallucination: rows with a higher hallucination score are left out.
      implicit_share: share of rows about mostly implicit reviews.
      size: number of rows of each form.
      seed: random seed that chooses the left-out rows.

    Returns:
      The name of the task, or of the mixture of both forms. The same settings give the same name.
    """
    ablation = Ablation(reasoning, max_hallucination, implicit_share, size, seed)
    if not forms or not set(forms) <= set(UNDERSTANDINGS):
        raise SettingError(
            "forms", expected="analysis, rewriting or both", found=str(forms), fix="choose another value"
        )
    settings = "_".join(
        f"{name}_{value}".replace(".", "p")
        for name, value in (
            ("reasoning", int(reasoning)),
            ("hallucination", max_hallucination),
            ("implicit", implicit_share),
            ("size", size),
            ("seed", seed),
        )
    )
    names = []
    for form in dict.fromkeys(forms):
        names.append(f"fsa_corpus_{form}_{settings}")
        if names[-1] not in seqio.TaskRegistry.names():
            add_teacher_text(names[-1], CorpusSource(form, ablation))
    if len(names) == 1:
        return names[0]
    mixture = f"fsa_corpus_{settings}"
    if mixture not in seqio.MixtureRegistry.names():
        seqio.MixtureRegistry.add(mixture, names, default_rate=1.0)
    return mixture
