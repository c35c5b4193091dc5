"""Finds the domain of a review: given with its file, or from the categories of its row, or of its item in a catalog.

Yelp has categories in the business file and Amazon in the metadata file. Both are read as a catalog that maps items to
domains. Only items of a wanted domain are kept in memory, at most a few hundred thousand short strings.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from fsa_base.errors import SettingError
from fsa_jax.reviews.dump_rows import expand, raw_rows
from fsa_jax.reviews.raw_row import BadRow
from fsa_jax.reviews.row_to_review import category_names, identifier

DEFAULT_RULES: dict[str, tuple[str, ...]] = {
    "restaurants": ("restaurants", "food", "cafes", "coffee & tea", "bakeries", "breakfast & brunch", "bars"),
    "computers": ("computers", "computers & accessories", "computers & tablets", "laptops", "tablets", "electronics"),
}
"""The categories of Yelp and Amazon that form the paper's two domains (arXiv 2412.18552, section 4.1)."""

_ITEM_COLUMNS = ("business_id", "parent_asin", "asin", "product_id", "item", "id")
_CATEGORY_COLUMNS = ("categories", "category", "main_category", "main_cat")


class DomainRules:
    """Rules that map categories to domains.

    Args:
      rules: category names by domain, compared without case. A name that starts with ``re:`` is a regular expression
        that is searched in the category's name. The first domain that matches is used.
    """

    def __init__(self, rules: Mapping[str, Sequence[str]]):
        self.names = tuple(rules)
        self._exact: dict[str, str] = {}
        self._patterns: list[tuple[re.Pattern[str], str]] = []
        for domain, categories in rules.items():
            for category in categories:
                if category.startswith("re:"):
                    try:
                        self._patterns.append((re.compile(category[3:], re.IGNORECASE), domain))
                    except re.error as error:
                        raise SettingError(
                            f"categories of {domain}",
                            expected="a regular expression after re:",
                            found=f"{category!r} ({error})",
                            fix="escape its special characters, or leave out re: to compare whole names",
                        ) from error
                else:
                    self._exact.setdefault(category.casefold(), domain)

    def domain(self, categories: Iterable[str]) -> str | None:
        """The domain of an item with these categories; None if no rule matches."""
        categories = tuple(categories)
        found = {self._exact[name.casefold()] for name in categories if name.casefold() in self._exact}
        found |= {domain for pattern, domain in self._patterns for name in categories if pattern.search(name)}
        return next((name for name in self.names if name in found), None)


def read_catalog(path: Path, rules: DomainRules) -> tuple[dict[str, str], Counter[str]]:
    """Reads a Yelp business file or an Amazon metadata file.

    Returns:
      The domain by item, for items of a wanted domain; and the number of rows by ``item of DOMAIN``, ``item of no
      wanted domain``, or the reason why a row was not read.
    """
    domains: dict[str, str] = {}
    counts: Counter[str] = Counter()
    for file in expand(path):
        for raw in raw_rows(file):
            row = raw if isinstance(raw, BadRow) else raw.parse()
            if isinstance(row, BadRow):
                counts[row.reason] += row.rows
                continue
            item = next((found for name in _ITEM_COLUMNS if (found := identifier(row.get(name)))), None)
            if item is None:
                counts["no item id"] += 1
                continue
            domain = rules.domain(part for name in _CATEGORY_COLUMNS for part in category_names(row.get(name)))
            if domain is None:
                counts["item of no wanted domain"] += 1
            else:
                domains[item] = domain
                counts[f"item of {domain}"] += 1
    return domains, counts
