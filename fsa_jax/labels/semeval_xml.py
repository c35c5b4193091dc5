"""The XML of SemEval 2014 (task 4), 2015 (task 12) and 2016 (task 5), and of MAMS.

2014 and MAMS have terms and categories side by side, which do not belong together; 2015 and 2016 have opinions with a
category and, for restaurants, a target::

    <sentence id="7"><text>The bread was good.</text>
      <aspectTerms><aspectTerm term="bread" polarity="positive" from="4" to="9"/></aspectTerms>
      <aspectCategories><aspectCategory category="food" polarity="positive"/></aspectCategories></sentence>

    <sentence id="1:0"><text>The bread was good.</text>
      <Opinions><Opinion target="bread" category="FOOD#QUALITY" polarity="positive" from="4" to="9"/></Opinions>
    </sentence>

A file of 2016 whose opinions are about whole reviews (subtask 2) has one example for each review. Documents with entity
declarations are refused, because entities can grow without limit.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from xml.parsers import expat

from fsa_jax.labels.raw import NULL, Notes, RawLabel, RawSentence, UnusableLabels

_MAX_DEPTH = 30
_LABELS = ("aspectTerm", "aspectCategory", "Opinion")


@dataclass
class _Open:
    """A sentence, or a review whose opinions are about all of it, that is being read."""

    line: int
    id: str | None
    out_of_scope: bool = False
    text: list[str] | None = None
    labels: list[RawLabel] = field(default_factory=list)


class _Reader:
    def __init__(self) -> None:
        self.sentences: list[RawSentence] = []
        self.reviews: list[RawSentence] = []
        self._parser = expat.ParserCreate()
        self._path: list[str] = []
        self._sentence: _Open | None = None
        self._review: _Open | None = None
        self._review_texts: list[str] = []
        self._parser.StartElementHandler = self._start
        self._parser.EndElementHandler = self._end
        self._parser.CharacterDataHandler = self._characters
        self._parser.EntityDeclHandler = self._entity
        self._parser.buffer_text = True

    def parse(self, data: bytes) -> None:
        try:
            self._parser.Parse(data, True)
        except expat.ExpatError as error:
            raise UnusableLabels(error.lineno, "XML", expat.ErrorString(error.code)) from None
        except (ValueError, LookupError) as error:  # encodings
            raise UnusableLabels(1, "XML in UTF-8", str(error)[:80]) from None

    @property
    def _line(self) -> int:
        return self._parser.CurrentLineNumber

    def _entity(self, name: str, *_: object) -> None:
        raise UnusableLabels(self._line, "XML without entity declarations", f"the entity {name[:40]!r}")

    def _start(self, name: str, attributes: Mapping[str, str]) -> None:
        self._path.append(name)
        if len(self._path) > _MAX_DEPTH:
            raise UnusableLabels(self._line, f"XML nested at most {_MAX_DEPTH} deep", "more")
        if name == "sentence":
            if self._sentence is not None:
                raise UnusableLabels(self._line, "the end of a sentence before the next", "a sentence in a sentence")
            scope = attributes.get("OutOfScope", "").upper() == "TRUE"
            self._sentence = _Open(self._line, attributes.get("id"), scope)
        elif name == "Review":
            self._review, self._review_texts = _Open(self._line, attributes.get("rid")), []
        elif name == "text" and self._sentence is not None:
            if self._sentence.text is not None:
                raise UnusableLabels(self._line, "one text in each sentence", "a second one")
            self._sentence.text = []
        elif name in _LABELS:
            place = self._sentence or self._review
            if place is None:
                raise UnusableLabels(self._line, f"{name} in a sentence", "one outside")
            place.labels.append(_label(name, attributes, self._line))

    def _end(self, name: str) -> None:
        self._path.pop()
        if name == "sentence" and self._sentence is not None:
            found, self._sentence = self._sentence, None
            if found.text is None:
                raise UnusableLabels(found.line, "a text in each sentence", "none")
            text = "".join(found.text)
            self._review_texts.append(text)
            unlabelled = "sentences out of scope" if found.out_of_scope and not found.labels else None
            self.sentences.append(RawSentence(found.line, text, tuple(found.labels), found.id, unlabelled))
        elif name == "Review" and self._review is not None:
            found, self._review = self._review, None
            text = " ".join(part.strip() for part in self._review_texts)
            self.reviews.append(RawSentence(found.line, text, tuple(found.labels), found.id))

    def _characters(self, characters: str) -> None:
        if self._sentence is not None and self._sentence.text is not None and self._path[-1] == "text":
            self._sentence.text.append(characters)


def read(data: bytes, notes: Notes) -> Iterator[RawSentence]:
    """Reads such a document.

    Raises:
      UnusableLabels: it is not XML, declares entities, or a sentence or label lacks what it needs.
    """
    reader = _Reader()
    reader.parse(data)
    about_reviews = any(review.labels for review in reader.reviews)
    if about_reviews and any(sentence.labels for sentence in reader.sentences):
        first = next(review for review in reader.reviews if review.labels)
        raise UnusableLabels(first.line, "opinions of sentences or of whole reviews", "both in one file")
    if about_reviews:
        notes.add("reviews with labels for the whole text, each an example", len(reader.reviews))
    if not reader.sentences:
        raise UnusableLabels(None, "elements <sentence> with <text>", "none")
    yield from reader.reviews if about_reviews else reader.sentences


def _label(name: str, attributes: Mapping[str, str], line: int) -> RawLabel:
    def needed(key: str) -> str:
        if key not in attributes:
            raise UnusableLabels(line, f"the attribute {key!r} of {name}", f"only {', '.join(attributes)[:80]}")
        return attributes[key]

    polarity = needed("polarity")
    if name == "aspectCategory":
        return RawLabel(line, polarity, category=needed("category"))
    if name == "aspectTerm":
        target = needed("term")
        category = None
    else:
        category = needed("category")
        if "target" not in attributes:
            return RawLabel(line, polarity, category=category)
        target = attributes["target"]
    start, end = (_offset(attributes.get(key), key, line) for key in ("from", "to"))
    if target == NULL:
        start = end = None
    return RawLabel(line, polarity, has_target=True, target=target, category=category, start=start, end=end)


def _offset(value: str | None, key: str, line: int) -> int | None:
    if value is None:
        return None
    if not (value.isascii() and value.isdigit() and len(value) < 10):
        raise UnusableLabels(line, f"a character offset as {key!r}", repr(value)[:80])
    return int(value)
