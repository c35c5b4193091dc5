from __future__ import annotations

import json
import shutil
from pathlib import Path

import label_samples
import pytest
from label_samples import SENTENCES

from fsa_base.errors import FsaError, SettingError
from fsa_jax.data import benchmark_files
from fsa_jax.labels.prepare import REPORT, name_of, prepare

PARTS = ("train", "dev", "test")


def _sentences(folder: Path):
    return [sentence for part in PARTS for sentence in benchmark_files.load(folder / f"{part}.json")]


@pytest.mark.parametrize(
    ("sample", "dataset"),
    [
        ("reviews.jsonl", "asqp/reviews"),
        ("tasd.txt", "tasd/tasd"),
        ("aste.txt", "atsa/aste"),
        ("semeval14.xml", "atsa/semeval14"),
        ("semeval16.xml", "tasd/semeval16"),
        ("terms.txt.atepc", "atsa/terms"),
    ],
)
def test_the_form_is_that_of_the_labels(tmp_path: Path, sample: str, dataset: str) -> None:
    prepared = prepare(label_samples.write(tmp_path, sample), tmp_path / "data")
    assert prepared.dataset == dataset
    assert benchmark_files.label_sets(tmp_path / "data") == [dataset]
    assert {file.name for file in prepared.folder.iterdir()} == {*(f"{part}.json" for part in PARTS), REPORT}
    counts = prepared.report["counts"]
    assert sum(counts[part]["sentences"] for part in PARTS) == len(_sentences(prepared.folder))


@pytest.mark.parametrize("codec", ["atsa", "acsa", "tasd", "asqp"])
def test_every_form_of_complete_labels(tmp_path: Path, codec: str) -> None:
    prepared = prepare(label_samples.write(tmp_path, "reviews.csv"), tmp_path / "data", codec=codec)
    assert prepared.dataset == f"{codec}/reviews"
    found = {sentence.text: sentence for sentence in _sentences(prepared.folder)}
    assert found.keys() == {text for text, _ in SENTENCES}
    for text, labels in SENTENCES:
        assert [(a.target, a.category) for a in found[text].aspects] == [(x.target, x.category) for x in labels]


def test_terms_and_categories_of_semeval_2014(tmp_path: Path) -> None:
    source = label_samples.write(tmp_path, "semeval14.xml")
    terms = prepare(source, tmp_path / "data", codec="atsa")
    categories = prepare(source, tmp_path / "data", codec="acsa")
    assert all(aspect.target for sentence in _sentences(terms.folder) for aspect in sentence.aspects)
    assert all(aspect.category for sentence in _sentences(categories.folder) for aspect in sentence.aspects)
    assert benchmark_files.label_sets(tmp_path / "data") == ["acsa/semeval14", "atsa/semeval14"]
    left_out = "labels without a part that the task form needs"
    assert terms.report["changed_or_left_out"][left_out] == 13
    with pytest.raises(SettingError, match="--task-form tasd"):
        prepare(source, tmp_path / "data", codec="tasd")


def test_the_report_says_what_was_read(tmp_path: Path) -> None:
    report = prepare(label_samples.write(tmp_path, "semeval16.xml"), tmp_path / "data", seed=7).report
    assert report["split"] == {"made": ["dev", "test"], "seed": 7, "near_identical": 0}
    assert report["formats"] == ["SemEval XML"]
    assert report["changed_or_left_out"] == {"sentences out of scope": 1}
    assert sum(report["counts"][part]["labels"] for part in PARTS) == sum(len(labels) for _, labels in SENTENCES)
    assert report["files"]["train"]["name"] == "semeval16.xml"


def test_the_same_content_is_reused_and_other_content_refused(tmp_path: Path) -> None:
    source = label_samples.write(tmp_path, "asqp.txt")
    first = prepare(source, tmp_path / "data")
    again = prepare(source, tmp_path / "data")
    assert (first.reused, again.reused) == (False, True)
    assert again.report == first.report
    # The place of the file does not matter.
    (tmp_path / "elsewhere").mkdir()
    moved = shutil.copy(source, tmp_path / "elsewhere" / source.name)
    assert prepare(Path(moved), tmp_path / "data").reused
    with source.open("a", encoding="utf-8") as stream:
        stream.write("Fresh tea here .####[['tea', 'drinks quality', 'positive', 'Fresh']]\n")
    with pytest.raises(SettingError, match="earlier output"):
        prepare(source, tmp_path / "data")
    replaced = prepare(source, tmp_path / "data", overwrite=True)
    assert not replaced.reused
    assert len(_sentences(replaced.folder)) == len(SENTENCES) + 1


def test_damaged_output_is_not_reused(tmp_path: Path) -> None:
    source = label_samples.write(tmp_path, "asqp.txt")
    prepared = prepare(source, tmp_path / "data")
    train = prepared.folder / "train.json"
    whole = train.read_bytes()
    train.write_bytes(whole[:-10])
    with pytest.raises(SettingError):
        prepare(source, tmp_path / "data")
    prepare(source, tmp_path / "data", overwrite=True)
    assert train.read_bytes() == whole


def test_files_that_others_wrote_are_never_replaced(tmp_path: Path) -> None:
    source = label_samples.write(tmp_path, "asqp.txt")
    folder = tmp_path / "data" / "fsa" / "asqp" / "asqp"
    folder.mkdir(parents=True)
    (folder / "train.json").write_text("[]")
    with pytest.raises(FsaError):
        prepare(source, tmp_path / "data", overwrite=True)
    assert (folder / "train.json").read_text() == "[]"


def test_ids_are_unique(tmp_path: Path) -> None:
    lines = [json.loads(line) for line in label_samples.jsonl().splitlines()]
    for number, line in enumerate(lines):
        line["id"] = ["r", "r#2", "other"][number % 3]
    source = tmp_path / "own.jsonl"
    source.write_text("".join(json.dumps(line) + "\n" for line in lines))
    ids = [sentence.id for sentence in _sentences(prepare(source, tmp_path / "data").folder)]
    assert len(ids) == len(set(ids)) == len(lines)


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("My Reviews (2024)/train.csv", "my_reviews_2024_train"),
        ("hotel/en", "hotel_en"),
        ("custom.train.txt.atepc", "custom"),
        ("großartig.csv", "gro_artig"),
        ("中文/数据.csv", "labels"),
    ],
)
def test_names_of_datasets(tmp_path: Path, path: str, name: str) -> None:
    file = tmp_path / "p" / path
    file.parent.mkdir(parents=True, exist_ok=True)
    if file.suffix:
        file.write_text("x")
    else:
        file.mkdir()
    assert name_of(file).endswith(name) if name == "labels" else name_of(file) == name
