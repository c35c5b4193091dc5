"""Shows a preview: prompts and answers side by side on a wide terminal, otherwise one under the other."""

from __future__ import annotations

import sys
from collections import Counter

from rich.console import Console
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from fsa_jax.common.terminal import console, printable
from fsa_jax.teacher.cost import amount
from fsa_jax.teacher.cost_report import PRICE_OPTIONS, print_estimate
from fsa_jax.teacher.generation_requests import Message
from fsa_jax.teacher.results import PreviewedRequest, TeachResult
from fsa_jax.text.analysis import is_analysis

SIDE_BY_SIDE = 100
"""Width of a terminal, in characters, from which on there are two columns."""


def print_preview(result: TeachResult, go_on: str) -> None:
    """Prints the requests of a preview, what they cost and what the others will cost.

    Texts of reviews and teachers are printed as they are, with control characters as visible escapes.

    Args:
      result: result of ``teach(…, preview=…)``.
      go_on: the command that continues the job.
    """
    found, estimate = result.preview, result.estimate
    assert found is not None and estimate is not None
    terminal = console()
    wide = sys.stdout.isatty() and terminal.width >= SIDE_BY_SIDE
    shown: set[tuple[str, str]] = set()
    for number, request in enumerate(found.requests, start=1):
        title = f"{number} of {len(found.requests)}: review {printable(request.review_id)}, prompt {request.prompt}"
        fixed, asked, answer = _fixed(request, shown), _message(request.messages[-1]), _answer(request)
        if wide:
            terminal.print(Rule(Text(title)))
            terminal.print(fixed, end="")
            table = Table.grid(padding=(0, 2), expand=True)
            table.add_column(ratio=1)
            table.add_column(ratio=1)
            table.add_row(asked, answer)
            terminal.print(table)
            terminal.print()
        else:
            _print(terminal, Text(f"==== {title} ====", style="bold"))
            _print(terminal, Text.assemble(fixed, asked, answer))
    _print_summary(terminal, result)
    print_estimate(estimate, result.prices, found.fastest_seconds)
    missing = sum(prompt.requests for prompt in estimate.prompts) + estimate.too_long
    if missing:
        _print(terminal, Text(f"to send the other {missing:,} requests:\n  {go_on}"))
    else:
        terminal.print("these are all requests of the job: nothing is missing")


def _print(terminal: Console, text: Text) -> None:
    # In a file, lines keep their lengths, so that texts can be copied.
    terminal.print(text, soft_wrap=not sys.stdout.isatty())


def _part(name: str, content: str, style: str = "") -> Text:
    return Text.assemble((f"[{name}]\n", "bold"), (printable(content.strip()), style), "\n")


def _message(message: Message) -> Text:
    return _part(f"prompt: {message['role']}", message["content"])


def _fixed(request: PreviewedRequest, shown: set[tuple[str, str]]) -> Text:
    """The part of the chat that is the same for all reviews; only its first occurrence is printed whole."""
    parts = []
    for message in request.messages[:-1]:
        known = (request.prompt, message["content"]) in shown
        shown.add((request.prompt, message["content"]))
        as_above = Text.assemble((f"[prompt: {message['role']}] ", "bold"), ("as above\n", "italic"))
        parts.append(as_above if known else _message(message))
    return Text.assemble(*parts)


def _answer(request: PreviewedRequest) -> Text:
    if request.failure is not None:
        name, text = "answer: FAILED", printable(request.failure)
        return Text.assemble(
            _part(name, text, "red"), *([_part("text until then", request.text)] if request.text else [])
        )
    style = "green" if _understood(request) else "yellow"
    return Text.assemble(_part("answer", request.text or ""), (f"-> {printable(_reading(request))}\n", style))


def _understood(request: PreviewedRequest) -> bool:
    if request.analysis is not None:
        return bool(request.analysis.opinions)
    return not is_analysis(request.text or "")


def _reading(request: PreviewedRequest) -> str:
    """What the parser of ``fsa check`` makes of an answer, as one line."""
    found = request.analysis
    if found is None:
        if is_analysis(request.text or ""):
            return "an analysis, although a rewriting was asked for"
        return "a rewriting: plain text, which needs no parser"
    reasons = Counter(
        part.reason + (f" {part.found[:40]!r}" if part.reason == "unknown sentiment" else "") for part in found.dropped
    )
    unusable = ", ".join(f"{count} with {reason}" for reason, count in reasons.items())
    if not found.opinions:
        return f"NOT parsed: no opinion found{f' ({unusable})' if unusable else ''}"
    count = len(found.opinions)
    return f"parsed: {count} opinion{'s' if count > 1 else ''}{f'; left out: {unusable}' if unusable else ''}"


def _print_summary(terminal: Console, result: TeachResult) -> None:
    found = result.preview
    assert found is not None
    failed = sum(request.failure is not None for request in found.requests)
    before = sum(request.stored_before for request in found.requests)
    count = len(found.requests)
    terminal.print(
        f"{count} requests: {count - failed} answers, {failed} failures; sent now: {count - before}, "
        f"stored before: {before}"
    )
    analyses = [request for request in found.requests if request.analysis is not None]
    if analyses:
        parsed = sum(map(_understood, analyses))
        terminal.print(f"fsa check's parser understands {parsed} of {len(analyses)} analyses")
    cost = f"unknown; give {PRICE_OPTIONS}" if found.cost is None else amount(found.cost)
    terminal.print(f"they used {found.input_tokens:,} input and {found.output_tokens:,} output tokens; cost: {cost}")
    for line in result.remarks:
        terminal.print(line, soft_wrap=True)
    if result.stopped:
        terminal.print(f"stopped early, {printable(result.stopped)}")
