"""No regular expression of this project needs time that grows with the square of a text's length.

The expressions are found in the source code, so new ones need not be listed here. Each is tried with strings that are
made from its parts: text that leads to a repetition, then thousands of repetitions, then a matching or failing end. The
clock counts only the time of this thread. The limits are 20 times the time of a linear expression and a fifth of that
of a quadratic one.
"""

from __future__ import annotations

import ast
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from re import _constants as ops  # pyright: ignore
from re import _parser as parser  # pyright: ignore
from typing import Any

ROOT = Path(__file__).parents[2]
SOURCES = sorted(
    path
    for folder in ("fsa_jax", "runtime/t5x")
    for path in (ROOT / folder).rglob("*.py")
    if "__pycache__" not in path.parts
)
METHODS = ("match", "fullmatch", "search", "findall", "finditer", "sub", "subn", "split")
LIMITS = ((25, 0.02), (32, 0.02), (250, 0.02), (1000, 0.03), (4000, 0.04), (16000, 0.1))
"""Number of characters of a string, and the time limit in seconds for it."""

NOT_OURS = {
    ("fsa_jax/reviews/domains.py", "category[3:]"): "the user's own expression, from --categories",
    ("runtime/t5x/optimizers.py", "pattern"): "the user's own expression, from a gin file, on names of parameters",
    ("runtime/t5x/cache_tasks.py", "pattern"): "the user's own expression, from --tasks",
    (
        "runtime/t5x/checkpointing/restoring.py",
        "pattern",
    ): "the user's own expression, from a gin file, on names of parameters",
    ("fsa_jax/labels/checks.py", "pattern"): "the letters of a term, at most _LONGEST, with blanks between them",
    ("fsa_jax/teacher/http_client.py", "'|'.join((''.join(map(_forms, secret)) for secret in ordered))"): (
        "every repetition in it is bounded by 4"
    ),
    (
        "fsa_jax/common/atomic_directory.py",
        "re.escape(f'.{self._out.name}.partial-') + '([0-9]+)'",
    ): "no repetition but the last",
}
"""Expressions that are built at run time, by file and source text, with the reason why they need no search."""

ALPHABET = " \t\n\raAzZ09_.,:;!?-–—…'\"“”‘’()[]{}<>/\\|#*&+=@$%^~`é²፩\xa0\u3000\u0301\x00"


@dataclass
class Expression:
    """A regular expression in the source code, and the methods with which it is used."""

    where: str
    pattern: str
    flags: int
    methods: set[str] = field(default_factory=set)


def _constant(node: ast.expr) -> Any:
    """The value of a literal; in an f-string, names represent the inserted values."""
    if isinstance(node, ast.JoinedStr):
        return "".join(str(part.value) if isinstance(part, ast.Constant) else "name" for part in node.values)
    return ast.literal_eval(node)


def _flags(node: ast.Call, position: int) -> int:
    given = [keyword.value for keyword in node.keywords if keyword.arg == "flags"] + node.args[position:]
    names = [part.attr for flag in given for part in ast.walk(flag) if isinstance(part, ast.Attribute)]
    return sum(int(getattr(re, name)) for name in names if isinstance(getattr(re, name, None), re.RegexFlag))


def _expressions(path: Path) -> Iterator[Expression | tuple[str, str]]:
    """The expressions of a module; for one that is built at run time, a pair of file and source text."""
    tree = ast.parse(path.read_text("utf-8"))
    name = path.relative_to(ROOT).as_posix()
    targets = {
        id(node.value): node.targets[0].id
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)
    }
    uses: dict[str, set[str]] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr in METHODS and isinstance(node.value, ast.Name):
            uses.setdefault(node.value.id, set()).add(node.attr)
    for node in ast.walk(tree):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
            continue
        if not (isinstance(node.func.value, ast.Name) and node.func.value.id == "re" and node.args):
            continue
        method = node.func.attr
        if method not in (*METHODS, "compile"):
            continue
        try:
            pattern = _constant(node.args[0])
        except ValueError:
            yield name, ast.unparse(node.args[0])
            continue
        if method == "compile":
            # If the module does not show how it is used, the slowest method is assumed.
            found = uses.get(targets.get(id(node), ""), set()) or {"search"}
            yield Expression(f"{name}:{node.lineno}", pattern, _flags(node, 1), found)
        else:
            position = {"sub": 4, "subn": 4, "split": 3}.get(method, 2)
            yield Expression(f"{name}:{node.lineno}", pattern, _flags(node, position), {method})


def _all() -> tuple[list[Expression], set[tuple[str, str]]]:
    found = [item for path in SOURCES for item in _expressions(path)]
    return [item for item in found if isinstance(item, Expression)], {x for x in found if isinstance(x, tuple)}


EXPRESSIONS, PUT_TOGETHER = _all()


_CATEGORIES: dict[Any, Callable[[str], bool]] = {
    ops.CATEGORY_DIGIT: str.isdecimal,
    ops.CATEGORY_NOT_DIGIT: lambda character: not character.isdecimal(),
    ops.CATEGORY_SPACE: str.isspace,
    ops.CATEGORY_NOT_SPACE: lambda character: not character.isspace(),
    ops.CATEGORY_WORD: lambda character: character.isalnum() or character == "_",
    ops.CATEGORY_NOT_WORD: lambda character: not (character.isalnum() or character == "_"),
}


def _holds(items: list[Any], character: str) -> bool:
    """Whether a parsed character class contains a character."""
    negated = bool(items) and items[0][0] is ops.NEGATE
    for kind, value in items:
        if (
            (kind is ops.LITERAL and ord(character) == value)
            or (kind is ops.RANGE and value[0] <= ord(character) <= value[1])
            or (kind is ops.CATEGORY and _CATEGORIES[value](character))
        ):
            return not negated
    return negated


def _sample(nodes: Any, rng: Random) -> str:
    """A string that the nodes match, ignoring lookahead and lookbehind."""
    parts = []
    for kind, value in nodes:
        if kind is ops.LITERAL:
            parts.append(chr(value))
        elif kind in (ops.NOT_LITERAL, ops.ANY):
            parts.append(rng.choice(ALPHABET))
        elif kind is ops.IN:
            parts.append(rng.choice([one for one in ALPHABET if _holds(value, one)] or ["a"]))
        elif kind is ops.BRANCH:
            parts.append(_sample(rng.choice(value[1]), rng))
        elif kind is ops.SUBPATTERN:
            parts.append(_sample(value[3], rng))
        elif kind is ops.ATOMIC_GROUP:
            parts.append(_sample(value, rng))
        elif kind in (ops.MAX_REPEAT, ops.MIN_REPEAT, ops.POSSESSIVE_REPEAT):
            times = rng.choice((value[0], value[0], min(value[1], value[0] + 1)))
            parts.append("".join(_sample(value[2], rng) for _ in range(times)))
    return "".join(parts)


def _repetitions(nodes: Any, before: list[Any]) -> Iterator[tuple[list[Any], Any]]:
    """All repetitions without a small limit, with the nodes before them."""
    nodes = list(nodes)
    for position, (kind, value) in enumerate(nodes):
        lead = [*before, *nodes[:position]]
        if kind is ops.BRANCH:
            for branch in value[1]:
                yield from _repetitions(branch, lead)
        elif kind is ops.SUBPATTERN:
            yield from _repetitions(value[3], lead)
        elif kind is ops.ATOMIC_GROUP:
            yield from _repetitions(value, lead)
        elif kind in (ops.ASSERT, ops.ASSERT_NOT):
            yield from _repetitions(value[1], lead)
        elif kind in (ops.MAX_REPEAT, ops.MIN_REPEAT, ops.POSSESSIVE_REPEAT):
            if value[1] > 100:
                yield lead, value[2]
            yield from _repetitions(value[2], lead)


def _attacks(expression: Expression, rng: Random) -> Iterator[Callable[[int], str]]:
    """Functions that make strings of any length on which the expression may be slow."""
    tree = parser.parse(expression.pattern, expression.flags)
    for lead, body in _repetitions(tree, []):
        start, once, whole = _sample(lead, rng), _sample(body, rng), _sample(tree, rng)
        pumps = {once, _sample(body, rng) + _sample(body, rng), start + once, start, whole, f"{once}\n", f" {once}"} - {
            ""
        }
        for pump in sorted(pumps):
            for prefix in sorted({"", start}):
                suffix = rng.choice(("", "\x00", "z", "!", "\n", "9", " ", rng.choice(ALPHABET)))
                yield (
                    lambda size, prefix=prefix, pump=pump, suffix=suffix: (
                        prefix + (pump * (size // len(pump) + 1))[:size] + suffix
                    )
                )


def _run(expression: Expression, text: str) -> None:
    compiled = re.compile(expression.pattern, expression.flags)
    for method in sorted(expression.methods):
        if method in ("sub", "subn"):
            compiled.sub("", text)
        elif method == "finditer":
            for _ in compiled.finditer(text):
                pass
        else:
            getattr(compiled, method)(text)


def _seconds(run: Callable[[], None], limit: float) -> float:
    """The CPU seconds of the thread for ``run``; the best of three if the first exceeds the limit."""
    taken = []
    for _ in range(3):
        began = time.thread_time()
        run()
        taken.append(time.thread_time() - began)
        if taken[-1] <= limit:
            break
    return min(taken)


def slow(expression: Expression, rng: Random) -> str | None:
    """Description of a string on which an expression is slow; None if none is found."""
    for attack in _attacks(expression, rng):
        for size, limit in LIMITS:
            text = attack(size)
            seconds = _seconds(lambda text=text: _run(expression, text), limit)
            if seconds > limit:
                return f"{expression.where}: {seconds:.2f} s for {size:,} characters: {text[:60]!r} … {text[-20:]!r}"
    return None


def test_the_search_finds_only_expressions_that_are_slow():
    for pattern, method in (
        (r"\s*,", "search"),
        (r"a\s*\d*\s*:", "match"),
        (r"^[\W\d]*target", "search"),
        (r"\"\s*([^\"]+?)\s*\"", "match"),
        (r"reasoning:\S+(?:\s+\S+){4}", "search"),
        (r"(?:a|aa)+b", "match"),
    ):
        flags = int(re.MULTILINE)
        assert any(slow(Expression("here", pattern, flags, {method}), Random(seed)) for seed in range(3)), pattern
    for pattern, method in ((r"\s*,", "match"), (r"(?<!\s)\s*+,", "search"), (r"a\s*+\d*+\s*+:", "search")):
        assert slow(Expression("here", pattern, 0, {method}), Random(0)) is None, pattern


def test_expressions_built_at_run_time_are_listed():
    """The search cannot see these expressions, so a person must check them."""
    assert NOT_OURS.keys() >= PUT_TOGETHER
    assert len(EXPRESSIONS) > 50


def test_no_expression_is_quadratic(campaign, rng, cases):
    def attempt(expression: Expression) -> str:
        found = slow(expression, rng)
        assert found is None, found
        return "linear"

    for expression in EXPRESSIONS:
        case = f"{expression.where} {expression.pattern!r} {sorted(expression.methods)}"
        for _ in range(cases(1, 6)):
            campaign.run(case, lambda expression=expression: attempt(expression))
