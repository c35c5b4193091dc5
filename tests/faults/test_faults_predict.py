"""Nothing in a review file or in the answers of a student ends ``fsa predict`` with a traceback."""

from __future__ import annotations

import csv
import io
import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest
from campaign import Campaign
from damage import damaged

from fsa_base.errors import CheckpointError, DataError, FsaError
from fsa_jax.serving.inputs import Row, read_rows
from fsa_jax.serving.prediction_record import TASKS, Prediction, read_prediction

REVIEWS = [
    "The pizza was great, the waiter was not.",
    'say "no", twice',
    "caf\u00e9 \u2028 bar \U0001f600",
    "nul \0 and bell \a",
    "",
    "5" + " " * 3000,
    "x" * 20_000,
]
ODD_LINES = [
    b'{"text": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    b'{"text": "a", "more": ' + b'{"a":' * 5_000 + b"1" + b"}" * 5_000 + b"}",
    b'{"text": "a", "id": ' + b"7" * 6_000 + b"}",
    b'{"text": "\\ud800"}',
    b'{"text": "a", "id": "\\udfff"}',
    b'{"text": "\xff\xfe"}',
    b'{"text": null}',
    b'{"text": 5}',
    b'{"text": ["a"]}',
    b'{"text": NaN}',
    b'{"text": "a", "id": Infinity}',
    b'{"text": "a", "id": {"b": [1, null]}}',
    b'{"text": "a"} {"text": "b"}',
    b"[1]",
    b"null",
    b'"',
    b"\xef\xbb\xbf{}",
    b"\0",
    b"\x1f\x8b\x08\0\0\0\0\0",
    '{"text": "utf-16"}'.encode("utf-16"),
    b'{"text": "' + b"x" * 2_000_000 + b'"}',
    b'{"text": "\\u0000"}',
    b'{"Text": "another key"}',
]
ODD_TABLES: list[Callable[[], pyarrow.Table]] = [
    lambda: pyarrow.table({"text": pyarrow.array([b"good", b"\xff\xfe"], pyarrow.binary()).view(pyarrow.string())}),
    lambda: pyarrow.table({"text": pyarrow.array([b"good", b"bad"], pyarrow.binary())}),
    lambda: pyarrow.table({"text": [1, 2]}),
    lambda: pyarrow.table({"text": [None, "a"]}),
    lambda: pyarrow.table({"text": [["a"], ["b"]]}),
    lambda: pyarrow.table({"review": ["a"]}),
    lambda: pyarrow.table({"text": ["a"], "at": pyarrow.array([2**62], pyarrow.timestamp("us"))}),
    lambda: pyarrow.table({"text": ["a"], "id": pyarrow.array([-(2**62)], pyarrow.timestamp("ns"))}),
    lambda: pyarrow.table({"text": pyarrow.array(["a", "b"] * 50).dictionary_encode()}),
    lambda: pyarrow.table({"text": pyarrow.array([], pyarrow.string())}),
    lambda: pyarrow.table([pyarrow.array(["a"]), pyarrow.array(["b"])], names=["text", "text"]),
]


def whole_file(kind: str, folder: Path) -> bytes:
    """A file of ``REVIEWS`` without faults."""
    rows = [{"id": f"r{i}", "text": text, "stars": i} for i, text in enumerate(REVIEWS)]
    if kind == "parquet":
        pyarrow.parquet.write_table(
            pyarrow.Table.from_pylist(rows), folder / "whole.parquet", write_page_checksum=True, row_group_size=3
        )
        return (folder / "whole.parquet").read_bytes()
    if kind == "csv":
        stream = io.StringIO(newline="")
        csv.writer(stream, lineterminator="\n").writerows([["id", "text", "stars"], *(row.values() for row in rows)])
        return stream.getvalue().replace("\0", "?").encode()
    if kind == "txt":
        return "".join(row["text"].replace("\n", " ") + "\n" for row in rows).encode()
    return "".join(json.dumps(row, ensure_ascii=bool(row["stars"] % 2)) + "\n" for row in rows).encode()


def read(file: Path) -> str:
    """Reads all rows; predictions must be possible for each."""
    rows = list(read_rows(file))
    for row in rows:
        found = read_prediction("atsa", row.id, row.text, "pizza | positive", -0.5, False)
        assert Prediction.model_validate_json(found.model_dump_json().encode()) == found
    return "same rows" if [row.text for row in rows] == REVIEWS else "other rows"


def texts_of_intact_lines(kind: str, whole: bytes, changed: bytes) -> list[str]:
    """The reviews that must be read from a damaged file of lines: those whose lines are complete and unchanged."""
    header = kind == "csv"
    left = set(changed.split(b"\n")[header:-1])
    found = [text for line, text in zip(whole.split(b"\n")[header:-1], REVIEWS, strict=True) if line in left]
    return [text.replace("\0", "?") for text in found] if header else found


@pytest.mark.parametrize("kind", ["jsonl", "txt", "csv", "parquet"])
def test_damaged_files_of_reviews(
    kind: str, campaign: Campaign, cases: Callable[[int, int], int], rng: random.Random, tmp_path: Path
) -> None:
    data, file = whole_file(kind, tmp_path), tmp_path / f"in.{kind}"
    for number in range(cases(60, 1500)):
        said, changed = damaged(data, random.Random(seed := rng.random()))
        file.write_bytes(changed)

        def attempt(changed: bytes = changed) -> str:
            outcome = read(file)
            if kind != "parquet":
                found = {row.text for row in read_rows(file)}
                assert not [text for text in texts_of_intact_lines(kind, data, changed) if text not in found]
            return outcome

        campaign.run(f"case {number}, {kind}, seed {seed}: {said}", attempt)
    # Damage that neither UTF-8 nor JSON nor a checksum of a page shows is read as a review.
    assert campaign.outcomes["refused"] and campaign.outcomes["other rows"] + campaign.outcomes["same rows"]


def test_odd_lines_of_json_are_read_or_refused_with_their_line(
    campaign: Campaign, cases: Callable[[int, int], int], rng: random.Random, tmp_path: Path
) -> None:
    file = tmp_path / "in.jsonl"
    good = [json.dumps({"id": str(i), "text": text}).encode() for i, text in enumerate(REVIEWS)]
    for number in range(cases(len(ODD_LINES), 600)):
        odd = ODD_LINES[number] if number < len(ODD_LINES) else damaged(rng.choice(ODD_LINES), rng)[1]
        place = rng.randrange(len(good) + 1)
        lines = [*good[:place], odd, *good[place:]]
        file.write_bytes(b"\n".join(lines) + rng.choice([b"", b"\n", b"\r\n"]))

        def attempt(place: int = place, odd: bytes = odd) -> str:
            try:
                rows = list(read_rows(file))
            except DataError as error:
                # Inserted bytes may be line ends.
                lines = range(place + 1, place + 2 + odd.count(b"\n"))
                assert any(str(error).startswith(f"{file}:{line}") for line in lines), str(error)[:200]
                raise
            kept = [row.text for row in rows if row.text in REVIEWS]
            assert len(kept) >= len(REVIEWS) and len(rows) <= len(REVIEWS) + 1 + odd.count(b"\n")
            for row in rows:
                row.text.encode(), row.id.encode()
            return "read"

        campaign.run(f"case {number}: {odd[:80]!r} at line {place + 1}", attempt)


def test_odd_tables_are_read_or_refused_with_their_row(campaign: Campaign, tmp_path: Path) -> None:
    for number, make in enumerate(ODD_TABLES):
        file = tmp_path / f"in{number}.parquet"
        pyarrow.parquet.write_table(make(), file)
        campaign.run(f"table {number}", lambda file=file: f"{min(1, len(list(read_rows(file))))} or more rows")
    pyarrow.parquet.write_table(ODD_TABLES[0](), tmp_path / "utf8.parquet")
    with pytest.raises(DataError, match=r"utf8.parquet: row 2: .*not UTF-8"):
        list(read_rows(tmp_path / "utf8.parquet"))


@pytest.mark.parametrize("content", [b"", b"\n\n", b"\xef\xbb\xbf"])
def test_files_without_reviews_have_no_rows(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "in.jsonl").write_bytes(content)
    assert list(read_rows(tmp_path / "in.jsonl")) == []


def test_a_folder_instead_of_a_review_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "in.jsonl").mkdir()
    with pytest.raises(FsaError, match="a folder"):
        list(read_rows(tmp_path / "in.jsonl"))


def test_an_error_names_the_row_and_not_the_block(tmp_path: Path) -> None:
    (tmp_path / "in.txt").write_bytes(b"fine\n" * 50 + b"bad \xff\n" + b"fine\n" * 50)
    with pytest.raises(DataError, match=r"in.txt:51: expected UTF-8"):
        list(read_rows(tmp_path / "in.txt"))


def test_any_answer_of_a_student_becomes_a_prediction(
    campaign: Campaign, cases: Callable[[int, int], int], rng: random.Random
) -> None:
    parts = [
        "pizza",
        " | ",
        "|",
        ";",
        " ; ",
        "positive",
        "negative",
        "Opinion Target 1: ",
        '"',
        "Aspect: ",
        "\n",
        "\n\n",
    ]
    parts += [
        "Sentiment: ",
        "Very Positive",
        "Reasoning: ",
        " ",
        "",
        "\0",
        "\u2028",
        "#",
        "food quality",
        "5" * 50,
        "null",
    ]
    for number in range(cases(300, 3000)):
        generated = "".join(rng.choice(parts) for _ in range(rng.randrange(40)))
        text = rng.choice([*REVIEWS, generated])

        def attempt(generated: str = generated, text: str = text) -> str:
            for task in TASKS:
                found: Any = read_prediction(task, "1", text, generated, -0.5, False)  # pyright: ignore[reportArgumentType]
                assert Prediction.model_validate_json(found.model_dump_json()) == found
                assert all(text[a.start : a.end] == a.target for a in found.aspects if a.target)
            return "read"

        campaign.run(f"case {number}: {generated!r} of {text[:50]!r}", attempt)


def test_predictions_of_odd_files(
    campaign: Campaign, cases: Callable[[int, int], int], rng: random.Random, exported: Path, tmp_path: Path
) -> None:
    """Runs the command with a tiny student: there are as many predictions as rows, or it is refused without an
    output."""
    from fsa_jax.cli.main import main

    whole = {kind: whole_file(kind, tmp_path) for kind in ("jsonl", "txt", "parquet")}
    for number in range(cases(12, 300)):
        kind = rng.choice(sorted(whole))
        said, changed = damaged(whole[kind], random.Random(seed := rng.random()))
        folder = tmp_path / str(number)
        folder.mkdir()
        file, out = folder / f"in.{kind}", folder / "out.jsonl"
        file.write_bytes(changed)

        def attempt(file: Path = file, out: Path = out) -> str:
            status = main(["predict", str(exported), str(file), str(out), "--max_output_length", "4"])
            if status == 2:
                assert list(file.parent.iterdir()) == [file]
                return "refused"
            assert status == 0
            rows = [
                Row(found["id"], found["text"]) for found in map(json.loads, out.read_text("utf-8").split("\n")[:-1])
            ]
            assert rows == list(read_rows(file))
            return "predicted"

        campaign.run(f"case {number}, {kind}, seed {seed}: {said}", attempt)
    assert campaign.outcomes["predicted"]


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CTranslate2 student that commit 528859f exported."""
    import tarfile

    folder = tmp_path_factory.mktemp("exported")
    with tarfile.open(Path(__file__).parents[1] / "testdata" / "v528859f" / "ct2.tar.xz") as archive:
        archive.extractall(folder, filter="data")
    return folder / "ct2"


def test_a_damaged_export_is_refused(
    campaign: Campaign, cases: Callable[[int, int], int], rng: random.Random, exported: Path, tmp_path: Path
) -> None:
    """Damages all files of an export except the weights, which have no checksums: no traceback, no other answers."""
    from fsa_jax.serving import Predictor

    texts = ["The pizza was great.", "Never again."]
    whole = [found.generated for found in Predictor(exported, max_output_length=4).predict(texts)]
    names = ["student.json", "shared_vocabulary.json", "tokenizer/spiece.model"]
    folder = tmp_path / "ct2"
    for number in range(cases(30, 500)):
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(exported, folder)
        file = folder / rng.choice(names)
        said, changed = damaged(file.read_bytes(), random.Random(seed := rng.random()))
        file.write_bytes(changed)

        def attempt(file: Path = file) -> str:
            found = [found.generated for found in Predictor(folder, max_output_length=4).predict(texts)]
            # The scores of pieces, which influence tokenization, are in no other file.
            assert found == whole or file.name == "spiece.model", found
            return "the same answers" if found == whole else "other answers of a damaged tokenizer"

        campaign.run(f"case {number}, seed {seed}: {file.name}: {said}", attempt)
    assert campaign.outcomes["refused"]


@pytest.mark.parametrize(
    "content", ["", "[]", "{}", '{"decoder_only": false, "instruction": "", "rows": 5}', '{"decoder_only": fal']
)
def test_a_damaged_description_of_an_export_is_an_error(exported: Path, tmp_path: Path, content: str) -> None:
    from fsa_jax.serving import Predictor

    shutil.copytree(exported, tmp_path / "ct2")
    (tmp_path / "ct2" / "student.json").write_text(content)
    with pytest.raises(CheckpointError, match="export it again"):
        Predictor(tmp_path / "ct2")


def test_a_tokenizer_of_another_model_is_refused(exported: Path, tmp_path: Path) -> None:
    """Otherwise ids of the model would be decoded with other pieces, which gives other text and no error."""
    from sentencepiece import sentencepiece_model_pb2

    from fsa_jax.serving import Predictor

    shutil.copytree(exported, tmp_path / "ct2")
    file = tmp_path / "ct2" / "tokenizer" / "spiece.model"
    model: Any = sentencepiece_model_pb2.ModelProto()  # pyright: ignore[reportAttributeAccessIssue]
    model.ParseFromString(file.read_bytes())
    one, other = model.pieces[10], model.pieces[20]
    one.piece, other.piece = other.piece, one.piece
    file.write_bytes(model.SerializeToString())
    with pytest.raises(CheckpointError, match="names of the tokenizer"):
        Predictor(tmp_path / "ct2")
