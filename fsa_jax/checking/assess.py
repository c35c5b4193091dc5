"""The check of one generation: what is wrong with it, what can be fixed, and whether it is kept.

The verdict is ``keep`` (the text is used as written), ``repair`` (the text is used after junk or invented opinions were
removed) or ``drop`` (the text is not used). Every repair and every drop is stored with its reason.

Whether an analysis, a rewriting and the star rating of one review agree is measured by their leans: the mean sentiment
of each on a scale from -1 (all negative) to 1 (all positive). The gap between two leans is half their distance: 0 is
full agreement, 1 is the opposite.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from fsa_base.errors import require_number
from fsa_jax.checking.grounding import Grounding, facts, ground
from fsa_jax.checking.junk import clean
from fsa_jax.common.records import Generation, Opinion, Record, Review
from fsa_jax.reviews.row_to_review import clean_text
from fsa_jax.teacher.answers import FAILURES, failure_reason
from fsa_jax.text import analysis
from fsa_jax.text.words import implicit_share
from fsa_jax.text.words import lean as lean_of_words

MAX_CHARACTERS = 60_000
"""Longer texts and reviews are dropped without a check. No real answer is so long, and this bounds the time of a
check."""

Verdict = Literal["keep", "repair", "drop"]


class CheckSettings(Record):
    """Thresholds of the check. The value 1 turns a limit off."""

    grounding: float = 0.5
    """Share of the words of an opinion target that must occur in the review (grounding.ground)."""
    max_hallucination: float = 0.5
    """Largest allowed share of opinions without a grounded target, or of sentences with an invented fact."""
    max_stars_gap: float = 0.75
    """Largest allowed gap between a generation's lean and its review's stars (``gap``)."""
    max_partner_gap: float = 0.75
    """Largest allowed gap between the leans of an analysis and a rewriting of one review by one teacher."""
    repair_analyses: bool = True
    """Whether to remove opinions whose target is not grounded. If False they stay, and only count in the hallucination
    score."""

    def model_post_init(self, context: object) -> None:
        for name in ("grounding", "max_hallucination", "max_stars_gap", "max_partner_gap"):
            require_number(name, getattr(self, name), 0, 1)


class CheckedGeneration(Record):
    """A generation with its review, its scores and its verdict."""

    review: Review
    generation: Generation
    verdict: Verdict
    reason: str | None = None
    """Why the generation is dropped; None if it is kept."""
    repairs: tuple[str, ...] = ()
    response: str = ""
    """The text that the student learns from. For a dropped generation: the teacher's text unchanged."""
    lost_opinions: tuple[str, ...] = ()
    """Why parts of the analysis do not give a usable opinion (analysis.DropReason)."""
    sentiments: tuple[str, ...] = ()
    grounding: tuple[str, ...] = ()
    """How each opinion's target occurs in the review (grounding.Kind), in order."""
    inventions: tuple[str, ...] = ()
    """Targets, names and numbers that do not occur in the review."""
    hallucination: float | None = Field(default=None, ge=0, le=1)
    """Share of opinions with an ungrounded target, or of sentences with an ungrounded fact, before such opinions are
    removed. None if the text could not be checked."""
    lean: float | None = None
    stars_gap: float | None = None
    partner_gap: float | None = None
    implicit_share: float = 0.0
    """Share of the review's sentences without an opinion word."""


def assess(review: Review, generation: Generation, settings: CheckSettings) -> CheckedGeneration:
    """Checks one generation alone. :func:`with_partner` adds the comparison with the other form."""
    text, repairs = clean_text(generation.text or "")
    if repairs:
        generation = generation.model_copy(update={"text": text})
    base = CheckedGeneration(
        review=review,
        generation=generation,
        verdict="drop",
        response=generation.text or "",
        repairs=repairs,
        implicit_share=implicit_share(review.text),
    )
    if generation.failure is not None:
        # Reasons are counted, so the details, which differ from row to row, are left out.
        failure = failure_reason(generation.failure)
        return base.model_copy(
            update={"reason": f"teacher failed: {failure if failure in FAILURES else 'another reason'}"}
        )
    limit = generation.sampling.get("max_tokens")
    cut_off = limit is not None and generation.output_tokens is not None and generation.output_tokens >= limit
    for name, length in (("text", len(text)), ("review", len(review.text))):
        if length > MAX_CHARACTERS:
            return base.model_copy(update={"reason": f"{name} longer than {MAX_CHARACTERS:,} characters"})
    cleaned = clean(generation.text or "", generation.understanding, cut_off)
    base = base.model_copy(update={"repairs": (*repairs, *cleaned.repairs)})
    if cleaned.defect is not None:
        return base.model_copy(update={"reason": cleaned.defect})
    if generation.understanding == "analysis":
        return _analysis(base, cleaned.text, settings)
    return _rewriting(base, cleaned.text, settings)


def _analysis(base: CheckedGeneration, text: str, settings: CheckSettings) -> CheckedGeneration:
    parsed = analysis.parse(text)
    base = base.model_copy(update={"lost_opinions": tuple(lost.reason for lost in parsed.dropped)})
    if not parsed.opinions:
        reasons = dict.fromkeys(base.lost_opinions)
        return base.model_copy(update={"reason": f"no opinion parsed ({', '.join(reasons) or 'none stated'})"})
    opinions = [found.opinion for found in parsed.opinions]
    grounds = [_ground(text, found, base.review.text, settings.grounding) for found in parsed.opinions]
    grounded = [opinion for opinion, found in zip(opinions, grounds, strict=True) if found.grounded]
    base = base.model_copy(
        update={
            "grounding": tuple(found.kind for found in grounds),
            "inventions": tuple(
                opinion.target for opinion, found in zip(opinions, grounds, strict=True) if not found.grounded
            ),
            "hallucination": 1 - len(grounded) / len(opinions),
            **_scores(base.review, opinions),
        }
    )
    if not grounded and (settings.repair_analyses or not _hallucination_allowed(base, settings)):
        return base.model_copy(update={"reason": "no target is in the review"})
    repairs = []
    if parsed.dropped:
        repairs.append("opinions that do not parse")
    if base.inventions and settings.repair_analyses and _hallucination_allowed(base, settings):
        repairs.append("opinions without a grounded target")
        opinions = grounded
    if repairs:
        text = analysis.write(opinions)
        base = base.model_copy(update={"repairs": (*base.repairs, *repairs), **_scores(base.review, opinions)})
    return _decide(base, text, settings)


def _ground(text: str, found: analysis.ParsedOpinion, review: str, threshold: float) -> Grounding:
    """Like :func:`ground`, but on the target as written: the parser removes brackets, which mark an unfilled slot."""
    bracketed = text[found.start - 1 : found.start] == "[" and text[found.end : found.end + 1] == "]"
    return ground(f"[{found.opinion.target}]" if bracketed else found.opinion.target, review, threshold)


def _scores(review: Review, opinions: list[Opinion]) -> dict[str, object]:
    lean = analysis.lean(opinions)
    return {
        "sentiments": tuple(opinion.sentiment for opinion in opinions),
        "lean": lean,
        "stars_gap": gap(lean, stars_lean(review.stars)),
    }


def _rewriting(base: CheckedGeneration, text: str, settings: CheckSettings) -> CheckedGeneration:
    by_sentence = facts(text, base.review.text)
    inventions = [fact.text for sentence in by_sentence for fact in sentence if not fact.grounded]
    with_invention = sum(any(not fact.grounded for fact in sentence) for sentence in by_sentence)
    lean = lean_of_words(text)
    base = base.model_copy(
        update={
            "inventions": tuple(inventions),
            "hallucination": with_invention / len(by_sentence) if by_sentence else 0.0,
            "lean": lean,
            "stars_gap": gap(lean, stars_lean(base.review.stars)),
        }
    )
    return _decide(base, text, settings)


def _hallucination_allowed(base: CheckedGeneration, settings: CheckSettings) -> bool:
    return (base.hallucination or 0.0) <= settings.max_hallucination


def _decide(base: CheckedGeneration, text: str, settings: CheckSettings) -> CheckedGeneration:
    if not _hallucination_allowed(base, settings):
        return base.model_copy(update={"reason": "too many inventions"})
    if base.stars_gap is not None and base.stars_gap > settings.max_stars_gap:
        return base.model_copy(update={"reason": "against the stars"})
    return base.model_copy(update={"verdict": "repair" if base.repairs else "keep", "response": text})


def with_partner(checked: CheckedGeneration, partner_lean: float | None, settings: CheckSettings) -> CheckedGeneration:
    """Adds the lean of the other form (analysis or rewriting) of the same review by the same teacher."""
    distance = gap(checked.lean, partner_lean)
    checked = checked.model_copy(update={"partner_gap": distance})
    if checked.verdict != "drop" and distance is not None and distance > settings.max_partner_gap:
        return checked.model_copy(
            update={
                "verdict": "drop",
                "reason": "analysis and rewriting disagree",
                "response": checked.generation.text or "",
            }
        )
    return checked


def stars_lean(stars: float | None) -> float | None:
    """Lean of a star rating: 1 star is -1, 3 stars are 0, 5 stars are 1."""
    return None if stars is None else max(-1.0, min(1.0, (stars - 3) / 2))


def gap(first: float | None, second: float | None) -> float | None:
    """Half the distance between two leans, 0 to 1; None if one of them is unknown."""
    return None if first is None or second is None else abs(first - second) / 2
