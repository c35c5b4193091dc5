"""Quotas of a sample: the number of reviews by star rating, domain and implicitness."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from fsa_base.errors import DataError, SettingError

PAPER_STARS_RATIO: dict[str, float] = {"1": 1, "2": 2, "3": 4, "4": 2, "5": 1}
"""Reviews with middle ratings have more diverse sentiment (arXiv 2412.18552, section 4.1)."""

Shortfall = Literal["shrink", "fill", "error"]

Limit = Literal["short", "duplicates", "ratio"]
"""Why a stratum gives fewer reviews than asked. ``short``: it has no more. ``duplicates``: too many of its candidates
were near duplicates. ``ratio``: another stratum is short, and the ratio is kept."""


@dataclass(frozen=True, order=True)
class Stratum:
    """One kind of review; a field is None if the sample is not stratified by it."""

    domain: str | None = None
    stars: int | None = None
    implicit: bool | None = None

    def __str__(self) -> str:
        parts = [
            self.domain,
            None if self.stars is None else f"{self.stars} stars",
            None if self.implicit is None else "implicit" if self.implicit else "explicit",
        ]
        return ", ".join(part for part in parts if part) or "all"


def shares(ratio: Mapping[str, float], setting: str) -> dict[str, float]:
    """Converts a ratio to shares that sum to 1; keys with weight 0 are left out.

    Raises:
      SettingError: a weight is negative, or no weight is above 0.
    """
    bad = [part for part, weight in ratio.items() if not (weight >= 0 and math.isfinite(weight))]
    total = sum(ratio.values())
    if bad or total <= 0:
        raise SettingError(
            setting,
            expected="weights of 0 or more, at least one above 0",
            found=str(dict(ratio)),
            fix="write words such as NAME=2, or null for no stratification",
        )
    return {part: weight / total for part, weight in ratio.items() if weight > 0}


def strata_shares(
    stars_ratio: Mapping[str, float] | None,
    domain_ratio: Mapping[str, float] | None,
    implicit_share: float | None,
) -> dict[Stratum, float]:
    """The share of each stratum in the sample: the product of the shares of its fields."""
    stars: dict[int | None, float] = {None: 1.0}
    if stars_ratio is not None:
        by_name = shares(stars_ratio, "stars_ratio")
        if odd := [name for name in by_name if name not in ("0", "1", "2", "3", "4", "5")]:
            raise SettingError(
                "stars_ratio",
                expected="keys 0 to 5",
                found=", ".join(odd),
                fix="half stars are rounded up to the next whole star",
            )
        stars = {int(name): share for name, share in by_name.items()}
    domains: dict[str | None, float] = {None: 1.0}
    if domain_ratio is not None:
        domains = {**shares(domain_ratio, "domain_ratio")}
    kinds: dict[bool | None, float] = {None: 1.0}
    if implicit_share is not None:
        if not 0 <= implicit_share <= 1:
            raise SettingError(
                "implicit_share", expected="0 to 1", found=str(implicit_share), fix="0.5 takes equally many of each"
            )
        kinds = {kind: part for kind, part in ((True, implicit_share), (False, 1 - implicit_share)) if part}
    return {
        Stratum(domain, star, kind): domain_share * star_share * kind_share
        for domain, domain_share in domains.items()
        for star, star_share in stars.items()
        for kind, kind_share in kinds.items()
    }


def quotas(shares_by_stratum: Mapping[Stratum, float], size: int) -> dict[Stratum, int]:
    """Numbers of reviews that sum to ``size``, each within 1 of its exact share (largest-remainder method)."""
    exact = {stratum: share * size for stratum, share in shares_by_stratum.items()}
    whole = {stratum: math.floor(value + 1e-9) for stratum, value in exact.items()}
    rest = size - sum(whole.values())
    # Ties are broken by the order of the strata, so that a quota never depends on hashing.
    for stratum in sorted(exact, key=lambda stratum: (whole[stratum] - exact[stratum], str(stratum)))[:rest]:
        whole[stratum] += 1
    return whole


def settle(
    shares_by_stratum: Mapping[Stratum, float], size: int, available: Mapping[Stratum, int], shortfall: Shortfall
) -> dict[Stratum, int]:
    """The number of reviews to take from each stratum, when the available numbers are known.

    * ``shrink`` (the default of ``fsa sample``): the largest sample that keeps the ratio.
    * ``fill``: all reviews of a stratum that has too few, the others unchanged; this changes the ratio.
    * ``error``: an error if a stratum has too few.

    Raises:
      DataError: with ``error`` a stratum has too few; or nothing can be sampled at all.
    """
    asked = quotas(shares_by_stratum, size)
    short = {stratum: quota for stratum, quota in asked.items() if available.get(stratum, 0) < quota}
    if not short:
        return asked
    listed = "; ".join(f"{stratum}: {available.get(stratum, 0)} of {quota}" for stratum, quota in short.items())
    largest = _largest(shares_by_stratum, size, available)
    if shortfall == "error" or (shortfall == "shrink" and largest == 0):
        fix = f"ask for {largest}, or " if largest else ""
        raise DataError(
            "sample",
            expected=f"{size} reviews in the requested ratio",
            found=listed,
            fix=f"{fix}take all available reviews with --shortfall fill, ask for other ratings with --stars-ratio, or "
            "add sources",
        )
    if shortfall == "shrink":
        return quotas(shares_by_stratum, largest)
    filled = {stratum: min(quota, available.get(stratum, 0)) for stratum, quota in asked.items()}
    if not any(filled.values()):
        raise DataError("sample", expected=f"{size} reviews", found=listed, fix="ask for other strata, or add sources")
    return filled


def _largest(shares_by_stratum: Mapping[Stratum, float], size: int, available: Mapping[Stratum, int]) -> int:
    """The largest size for which every stratum has enough reviews. Sizes are tried downwards from the scarcest
    stratum's limit, because rounding may require one review more."""
    largest = min(
        size,
        *(math.ceil((available.get(stratum, 0) + 1) / share) for stratum, share in shares_by_stratum.items()),
    )
    while largest and any(
        quota > available.get(stratum, 0) for stratum, quota in quotas(shares_by_stratum, largest).items()
    ):
        largest -= 1
    return largest
