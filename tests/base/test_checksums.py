"""Checksums of directories: every kind of change is noticed, and sha256sum agrees."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from fsa_base import checksums


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    folder = tmp_path / "made"
    (folder / "state" / "d").mkdir(parents=True)
    (folder / "state" / "d" / "0a").write_bytes(os.urandom(3 << 20))
    (folder / "état.json").write_text("{}")
    (folder / "marker").write_text("")
    return folder


def test_an_unchanged_directory_has_no_problems(directory: Path) -> None:
    digest = checksums.write(directory, skip=["marker"])
    (directory / "marker").write_text(digest)
    assert checksums.problems(directory, digest, skip=["marker"]) == []
    if shutil.which("sha256sum"):
        subprocess.run(["sha256sum", "--quiet", "-c", checksums.LIST], cwd=directory, check=True)


def _flip(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda folder: _flip(folder / "state" / "d" / "0a"), "state/d/0a has changed"),
        (lambda folder: (folder / "état.json").unlink(), "état.json is missing"),
        (lambda folder: (folder / "state" / "more").write_text(""), "state/more is not in checksums.sha256"),
        (lambda folder: (folder / checksums.LIST).unlink(), "checksums.sha256 cannot be read"),
        (lambda folder: _flip(folder / checksums.LIST), "checksums.sha256 is not the list that was written"),
        (lambda folder: (folder / checksums.LIST).write_text(""), "checksums.sha256 is not the list that was written"),
    ],
)
def test_every_change_is_named(directory: Path, damage, said: str) -> None:
    digest = checksums.write(directory, skip=["marker"])
    damage(directory)
    assert checksums.problems(directory, digest, skip=["marker"]) == [said]


def test_files_added_by_an_operating_system_are_ignored(directory: Path) -> None:
    (directory / "state" / ".nfs000000000001b2c300000001").write_text("deleted while open")
    checksums.write(directory, skip=["marker"])
    names = (directory / checksums.LIST).read_text().split()[1::2]
    assert names == ["state/d/0a", "état.json"]
    with (directory / checksums.LIST).open("a") as file:
        file.write(f"{'0' * 64}  state/Thumbs.db\n")  # as earlier versions listed them
    (directory / "state" / ".nfs000000000001b2c300000001").unlink()
    (directory / "state" / "d" / ".DS_Store").write_text("")
    assert checksums.problems(directory, None, skip=["marker"]) == []
    (directory / "state" / ".hidden").write_text("")
    assert checksums.problems(directory, None, skip=["marker"]) == ["state/.hidden is not in checksums.sha256"]


def test_a_list_is_read_without_its_digest(directory: Path) -> None:
    checksums.write(directory)
    (directory / checksums.LIST).write_text("nonsense\n")
    assert checksums.problems(directory, None) == ["checksums.sha256 has a line that is not a checksum"]


def test_the_digest_of_a_directory_depends_on_its_content_only(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    (folder / "onnx").mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    (folder / "onnx" / "weights").write_text("1")
    before = checksums.digest(folder)
    # The notes of `hf download`, and a file that is being written.
    (folder / ".cache").mkdir()
    (folder / ".cache" / "config.json.metadata").write_text("now")
    (folder / ".out.jsonl.partial").write_text("half")
    assert checksums.digest(folder) == before
    (folder / "latest").symlink_to(folder / "onnx")
    (folder / "gone").symlink_to(folder / "nowhere")
    with_links = checksums.digest(folder)
    assert with_links != before
    (folder / "onnx" / "weights").write_text("2")
    assert checksums.digest(folder) != with_links
