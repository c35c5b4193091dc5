"""Small label files of every format about the same sentences, and their labels."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple
from xml.sax.saxutils import escape, quoteattr


class Opinion(NamedTuple):
    """One label; ``target`` and ``opinion`` are None if the sentence does not name them."""

    target: str | None
    category: str
    polarity: str
    opinion: str | None


SENTENCES: list[tuple[str, list[Opinion]]] = [
    (
        "The bread was good but the staff was rude .",
        [Opinion("bread", "food quality", "positive", "good"), Opinion("staff", "service general", "negative", "rude")],
    ),
    ("Nobody smiled all evening .", [Opinion(None, "service general", "negative", None)]),
    ("We went there on Monday .", []),
    ("Tea & cake <3 were « délicieux » !", [Opinion("Tea & cake", "food quality", "positive", "délicieux")]),
    ("The view is neither here nor there .", [Opinion("view", "location general", "neutral", None)]),
    (
        "Overpriced , and it 's loud .",
        [
            Opinion(None, "restaurant prices", "negative", "Overpriced"),
            Opinion(None, "ambience general", "negative", "loud"),
        ],
    ),
    ("Friendly waiters bring warm soup .", [Opinion("waiters", "service general", "positive", "Friendly")]),
    ("🍕 arrived cold on a plate .", [Opinion("🍕", "food quality", "negative", "cold")]),
    ("Lovely garden with old trees .", [Opinion("garden", "ambience general", "positive", "Lovely")]),
    ("My battery keeps dying at noon .", [Opinion("battery", "laptop battery", "negative", "dying")]),
    ("A menu of ten dishes .", [Opinion("menu", "food style_options", "neutral", None)]),
    ("Their coffee beats every other place .", [Opinion("coffee", "drinks quality", "positive", "beats")]),
]


def with_terms() -> list[tuple[str, list[Opinion]]]:
    """The sentences with the labels that name a term; ``.apc`` cannot have others."""
    return [(text, [label for label in labels if label.target]) for text, labels in SENTENCES]


def jsonl() -> str:
    rows = []
    for number, (text, labels) in enumerate(SENTENCES):
        aspects = [
            {
                "target": label.target,
                "category": label.category,
                "polarity": label.polarity,
                **(
                    {"from": text.index(label.target), "to": text.index(label.target) + len(label.target)}
                    if label.target
                    else {}
                ),
                "opinion_words": [label.opinion] if label.opinion else [],
            }
            for label in labels
        ]
        rows.append({"id": f"s{number}", "text": text, "aspects": aspects})
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def json_list() -> str:
    return json.dumps([json.loads(line) for line in jsonl().splitlines()], indent=2, ensure_ascii=False)


def table(delimiter: str = ",") -> str:
    stream = io.StringIO()
    writer = csv.writer(stream, delimiter=delimiter, lineterminator="\n")
    writer.writerow(["text", "target", "category", "polarity", "from", "to", "opinion"])
    for text, labels in SENTENCES:
        for label in labels:
            start = text.index(label.target) if label.target else ""
            end = text.index(label.target) + len(label.target) if label.target else ""
            cells = [label.target or "NULL", label.category, label.polarity, start, end, label.opinion or "NULL"]
            writer.writerow([text, *cells])
        if not labels:
            writer.writerow([text, *[""] * 6])
    return stream.getvalue()


def asqp() -> str:
    return _tuple_lines(lambda label: [label.target or "NULL", label.category, label.polarity, label.opinion or "NULL"])


def tasd() -> str:
    return _tuple_lines(lambda label: (label.target or "NULL", label.category, label.polarity))


def aste() -> str:
    lines = []
    for text, labels in SENTENCES:
        words = text.split()
        triples = [
            (_words(label.target, words), _words(label.opinion, words), label.polarity[:3].upper())
            for label in labels
            if label.target and label.opinion
        ]
        lines.append(f"{text}####{triples!r}\n")
    return "".join(lines)


def acos() -> str:
    lines = []
    for text, labels in SENTENCES:
        words = text.split()
        parts = [
            f"{_range(label.target, words)} {label.category.replace(' ', '#').upper()} "
            f"{['negative', 'neutral', 'positive'].index(label.polarity)} {_range(label.opinion, words)}"
            for label in labels
        ]
        lines.append("\t".join([text, *parts]) + "\n")
    return "".join(lines)


def apc() -> str:
    lines = []
    for text, labels in with_terms():
        for label in labels:
            assert label.target
            lines += [text.replace(label.target, "$T$", 1), label.target, label.polarity.capitalize()]
    return "\n".join(lines) + "\n"


def atepc() -> str:
    blocks = []
    for text, labels in with_terms():
        words = text.split()
        for label in labels or [None]:
            marked = _words(label.target, words) if label else []
            others = {place for other in labels if other != label for place in _words(other.target, words)}
            rows = []
            for place, word in enumerate(words):
                tag = "B-ASP" if place in {*marked[:1], *others} else "I-ASP" if place in marked else "O"
                polarity = label.polarity.capitalize() if label and place in marked else "-100"
                rows.append(f"{word} {tag} {polarity}")
            blocks.append("\n".join(rows) + "\n")
    return "\n".join(blocks)


def semeval14() -> str:
    sentences = []
    for number, (text, labels) in enumerate(SENTENCES):
        terms = "".join(
            f"<aspectTerm term={quoteattr(label.target)} polarity={quoteattr(label.polarity)} "
            f'from="{text.index(label.target)}" to="{text.index(label.target) + len(label.target)}"/>\n'
            for label in labels
            if label.target
        )
        categories = "".join(
            f"<aspectCategory category={quoteattr(category)} polarity={quoteattr(polarity)}/>\n"
            for category, polarity in dict.fromkeys((label.category, label.polarity) for label in labels)
        )
        body = f"<text>{escape(text)}</text>\n"
        body += f"<aspectTerms>\n{terms}</aspectTerms>\n" if terms else ""
        body += f"<aspectCategories>\n{categories}</aspectCategories>\n" if categories else ""
        sentences.append(f'<sentence id="{number}">\n{body}</sentence>\n')
    return f'<?xml version="1.0" encoding="UTF-8"?>\n<sentences>\n{"".join(sentences)}</sentences>\n'


def semeval16() -> str:
    sentences = []
    for number, (text, labels) in enumerate(SENTENCES):
        opinions = "".join(
            f"<Opinion target={quoteattr(label.target or 'NULL')} category={quoteattr(_big(label.category))} "
            f"polarity={quoteattr(label.polarity)} {_from_to(label.target, text)}/>\n"
            for label in labels
        )
        body = f"<text>{escape(text)}</text>\n" + (f"<Opinions>\n{opinions}</Opinions>\n" if opinions else "")
        sentences.append(f'<sentence id="7:{number}">\n{body}</sentence>\n')
    extra = '<sentence id="7:99" OutOfScope="TRUE"><text>Was here before .</text></sentence>\n'
    inner = "".join(sentences) + extra
    document = f'<Reviews><Review rid="7"><sentences>\n{inner}</sentences></Review></Reviews>\n'
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{document}'


def _big(category: str) -> str:
    return category.replace(" ", "#").upper()


def _from_to(target: str | None, text: str) -> str:
    start = text.index(target) if target else 0
    return f'from="{start}" to="{start + len(target or "")}"'


def _tuple_lines(write: Callable[[Opinion], object]) -> str:
    return "".join(f"{text}####{[write(label) for label in labels]!r}\n" for text, labels in SENTENCES)


def _words(part: str | None, words: list[str]) -> list[int]:
    inner = (part or "").split()
    for start in range(len(words)):
        if inner and words[start : start + len(inner)] == inner:
            return list(range(start, start + len(inner)))
    return []


def _range(part: str | None, words: list[str]) -> str:
    found = _words(part, words)
    return f"{found[0]},{found[-1] + 1}" if found else "-1,-1"


SAMPLES: dict[str, Callable[[], str]] = {
    "reviews.jsonl": jsonl,
    "reviews.json": json_list,
    "reviews.csv": table,
    "semicolons.csv": lambda: table(";"),
    "reviews.tsv": lambda: table("\t"),
    "semeval14.xml": semeval14,
    "semeval16.xml": semeval16,
    "aste.txt": aste,
    "tasd.txt": tasd,
    "asqp.txt": asqp,
    "acos.tsv": acos,
    "terms.apc": apc,
    "terms.txt.atepc": atepc,
}


def write(folder: Path, name: str) -> Path:
    """Writes one sample file; returns its path."""
    path = folder / name
    path.write_bytes(SAMPLES[name]().encode())
    return path
