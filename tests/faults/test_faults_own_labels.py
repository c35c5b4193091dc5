"""Label files of all formats with faults: read, and then usable, or refused with one error that names the file."""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from pathlib import Path

import label_samples
from campaign import Campaign
from damage import damaged
from label_samples import SAMPLES

from fsa_base.errors import FsaError
from fsa_jax.data import benchmark_files
from fsa_jax.labels.prepare import prepare
from fsa_jax.text.pairs import ATSA
from fsa_jax.text.tuples import CODECS

NAMES = sorted(SAMPLES)
ODD = (
    *(
        "",
        " ",
        "NULL",
        "null",
        "-1",
        "0",
        "3",
        "9" * 5000,
        "1e400",
        "nan",
        "true",
        "\\",
        "'",
        '"',
        "####",
        "$T$",
        "\t",
        ";",
    ),
    *(
        "|",
        "\n",
        "\r",
        "\x00",
        "\x1b[2J",
        "\u202e",
        "\ud800",
        "{}",
        "[]",
        "[[",
        "](",
        "&amp;",
        "&x;",
        "<text>",
        "</sentence>",
    ),
    *("a" * 300_000, "(" * 5000, "[" * 5000, "é" * 100, "𝕏", "ﬀ", "İ", "__import__('os').abort()", "B-ASP", "-999"),
)
_VALUES = r"positive|negative|neutral|Positive|Negative|Neutral|POS|NEG|NEU"
_ENTITIES = [f'<!ENTITY {name} "{f"&{before};" * 10}">' for before, name in zip("abcde", "bcdef", strict=True)]
_BOMB = f'<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa">{"".join(_ENTITIES)}]>'


def _polarity(text: str, rng: random.Random) -> tuple[str, str]:
    places = list(re.finditer(_VALUES, text))
    if not places:
        return "no polarity to change", text + rng.choice(ODD)
    place, value = (
        rng.choice(places),
        rng.choice(["happy", "", "2", "-1", "conflict", "POSITIVE", "good bad", "NULL"]),
    )
    return f"polarity at {place.start()} is {value!r}", text[: place.start()] + value + text[place.end() :]


def _offset(text: str, rng: random.Random) -> tuple[str, str]:
    places = list(re.finditer(r"\d+", text))
    if not places:
        return "no number to change", text[: rng.randrange(len(text))]
    place, value = rng.choice(places), rng.choice(["-1", "0", "3", "999", "9" * 50, "1.5", "x", ""])
    return f"number at {place.start()} is {value!r}", text[: place.start()] + value + text[place.end() :]


def _odd(text: str, rng: random.Random) -> tuple[str, str]:
    words = list(re.finditer(r"[\w#$-]+|[^\w\s]", text))
    place, value = rng.choice(words), rng.choice(ODD)
    end = place.end() if rng.random() < 0.5 else place.start()
    return f"{value[:12]!r} at {place.start()}", text[: place.start()] + value + text[end:]


def _lines(text: str, rng: random.Random) -> tuple[str, str]:
    lines = text.splitlines(keepends=True)
    at, other = rng.randrange(len(lines)), rng.randrange(len(lines))
    kind = rng.choice(["removed", "twice", "swapped with another", "joined with the next", "shuffled"])
    if kind == "removed":
        del lines[at]
    elif kind == "twice":
        lines.insert(other, lines[at])
    elif kind == "joined with the next":
        lines[at] = lines[at].rstrip("\n")
    elif kind == "shuffled":
        rng.shuffle(lines)
    else:
        lines[at], lines[other] = lines[other], lines[at]
    return f"line {at} {kind}", "".join(lines)


def _mixed(text: str, rng: random.Random) -> tuple[str, str]:
    other = rng.choice(NAMES)
    lines, others = text.splitlines(keepends=True), SAMPLES[other]().splitlines(keepends=True)
    at = rng.randrange(len(lines) + 1)
    return f"{other} from line {at} on", "".join([*lines[:at], *others[rng.randrange(len(others)) :]])


def _bomb(text: str, rng: random.Random) -> tuple[str, str]:
    del rng
    head, mark, rest = text.partition("?>")
    body = (rest if mark else text).replace("was", "&f;", 1)
    return "an entity bomb", f"{head + mark if mark else ''}{_BOMB}{body}"


_TEXT_FAULTS = (_polarity, _offset, _odd, _odd, _lines, _mixed, _bomb)


def _fault(name: str, rng: random.Random) -> tuple[str, bytes]:
    data = SAMPLES[name]().encode()
    kind = rng.randrange(10)
    if kind < 3:
        return damaged(data, rng)
    if kind == 3:
        encoding = rng.choice(["utf-16", "utf-16-le", "utf-32", "latin-1", "cp1252", "cp037"])
        return f"in {encoding}", data.decode().encode(encoding, "replace")
    said, text = rng.choice(_TEXT_FAULTS)(data.decode(), rng)
    if rng.random() < 0.2:
        again, text = rng.choice(_TEXT_FAULTS)(text, rng) if text.strip() else ("", text)
        said = f"{said}, {again}"
    return said, text.encode("utf-8", "surrogatepass")


def _require_usable(source: Path, out: Path, lenient: bool) -> str:
    """Prepares labels, and reads them as training and scoring do; returns the outcome."""
    prepared = prepare(source, out, lenient=lenient)
    codec = CODECS[prepared.dataset.split("/")[0]]
    ids = []
    for part in ("train", "dev", "test"):
        sentences = benchmark_files.load(prepared.folder / f"{part}.json")
        counts = prepared.report["counts"][part]
        assert len(sentences) == counts["sentences"]
        for sentence in sentences:
            ids.append(sentence.id)
            tuples = codec.decode(codec.encode(sentence), sentence.text)
            unreadable = codec.unreadable(sentence)
            written = [a for a in sentence.aspects if a not in unreadable and (a.target or codec.parts != ATSA.parts)]
            assert bool(tuples) == bool(written)
            for aspect in sentence.aspects:
                assert aspect.target is None or sentence.text[aspect.start : aspect.end] == aspect.target
    assert len(ids) == len(set(ids))
    return "read with something changed or left out" if prepared.report["changed_or_left_out"] else "read"


def test_faults_own_labels(
    campaign: Campaign, cases: Callable[[int, int], int], rng: random.Random, tmp_path: Path
) -> None:
    for number in range(cases(2100, 20_000)):
        name = NAMES[number % len(NAMES)]
        said, data = _fault(name, rng)
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / name).write_bytes(data)
        lenient = rng.random() < 0.25

        def attempt(source: Path = folder / name, out: Path = folder / "out", lenient: bool = lenient) -> str:
            try:
                return _require_usable(source, out, lenient)
            except FsaError as error:
                assert re.fullmatch(rf"{re.escape(str(source))}(:[1-9]\d*)?|--task-form \w+", error.where), error.where
                assert len(str(error)) < 2000
                str(error).encode()
                raise

        campaign.run(f"case {number}, {name}{', lenient' if lenient else ''}: {said}", attempt)
    assert campaign.outcomes["refused"] > campaign.cases // 4
    assert campaign.outcomes["read"] > 0


def test_undamaged_files_are_usable(tmp_path: Path) -> None:
    for name in NAMES:
        _require_usable(label_samples.write(tmp_path, name), tmp_path / f"out-{name}", lenient=False)
