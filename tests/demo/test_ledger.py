"""Resuming: finished stages are skipped, changed stages are repeated, interrupted stages continue."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import stat
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fsa_base.errors import MissingDataError, SettingError
from fsa_jax.demo import ledger as ledger_module
from fsa_jax.demo.ledger import Ledger, Stage, claimed
from fsa_jax.demo.plan import Plan
from fsa_jax.demo.settings import DemoSettings, Layout

ROOT = Path(__file__).parents[2]


def write(stage: Stage, text: str = "made") -> None:
    for output in stage.outputs:
        output.mkdir(parents=True, exist_ok=True)
        (output / "file").write_text(text)


@pytest.fixture
def ledger(tmp_path):
    return Ledger(tmp_path / ".stages")


def test_a_stage_is_done_once(ledger, tmp_path):
    stage = Stage("distilled", {"steps": 3}, (tmp_path / "out",))
    assert not ledger.is_done(stage)
    with ledger.working_on(stage):
        assert not ledger.is_done(stage)
        write(stage)
    assert ledger.is_done(stage)
    assert Ledger(tmp_path / ".stages").is_done(stage), "known to the next process"


def test_a_stage_whose_output_is_gone_is_not_done(ledger, tmp_path):
    stage = Stage("a/b", {}, (tmp_path / "out",))
    with ledger.working_on(stage):
        write(stage)
    (tmp_path / "out" / "file").unlink()
    (tmp_path / "out").rmdir()
    assert not ledger.is_done(stage)


def test_an_interrupted_stage_keeps_its_files(ledger, tmp_path):
    stage = Stage("train", {"steps": 3}, (tmp_path / "out",))
    with pytest.raises(KeyboardInterrupt), ledger.working_on(stage):
        write(stage, "checkpoint")
        raise KeyboardInterrupt
    assert not ledger.is_done(stage)
    with ledger.working_on(stage):
        assert (tmp_path / "out" / "file").read_text() == "checkpoint"
    assert ledger.is_done(stage)


def test_a_stage_with_other_settings_starts_again(ledger, tmp_path):
    for steps in (3, 4):
        stage = Stage("train", {"steps": steps}, (tmp_path / "out", tmp_path / "single"))
        assert not ledger.is_done(stage)
        with ledger.working_on(stage):
            assert not (tmp_path / "out").exists() and not (tmp_path / "single").exists()
            write(Stage("", {}, (tmp_path / "out",)))
            (tmp_path / "single").write_text("")
    assert ledger.is_done(stage)


def test_other_settings_remove_a_link_but_not_its_target(ledger, tmp_path):
    """A link to a directory once caused a traceback here."""
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "file").write_text("mine")
    (tmp_path / "out").symlink_to(tmp_path / "mine")
    with ledger.working_on(Stage("train", {"steps": 3}, (tmp_path / "out",))):
        assert not (tmp_path / "out").is_symlink()
    assert (tmp_path / "mine" / "file").read_text() == "mine"


@settings(max_examples=50)
@given(st.lists(st.integers(0, 3), min_size=3, max_size=3), st.lists(st.integers(0, 3), min_size=3, max_size=3))
def test_a_change_affects_only_later_stages(old, new):
    def chain(values):
        first = Stage("first", {"x": values[0]}, ())
        second = Stage("second", {"x": values[1]}, (), [first])
        return [first, second, Stage("third", {"x": values[2]}, (), [second])]

    for index, (before, after) in enumerate(zip(chain(old), chain(new), strict=True)):
        assert (before.key == after.key) == (old[: index + 1] == new[: index + 1])


def test_seconds_add_up_over_starts(ledger, tmp_path, monkeypatch):
    clock = iter([0.0, 10.0, 100.0, 105.0])
    monkeypatch.setattr(ledger_module.time, "monotonic", lambda: next(clock))
    stage = Stage("slow", {}, ())
    with pytest.raises(RuntimeError), ledger.working_on(stage):
        raise RuntimeError
    with ledger.working_on(stage):
        pass
    assert ledger.seconds(stage) == 15.0


def test_a_damaged_marker_counts_as_missing(ledger, tmp_path):
    stage = Stage("x", {}, ())
    with ledger.working_on(stage):
        pass
    (tmp_path / ".stages" / "x.json").write_text('{"key": "')
    assert not ledger.is_done(stage)


def test_an_edited_include_makes_its_stages_run_again(tmp_path, monkeypatch):
    """A recipe depends on all files that it includes, also indirectly, and on those of the
    engine."""
    shutil.copytree(ROOT / "gin", tmp_path / "gin")
    monkeypatch.chdir(tmp_path)
    plan = Plan(DemoSettings(), Layout(tmp_path / "out"))

    def keys() -> list[str]:
        run = ("distilled", 0.01, 42)
        return [stage.key for stage in (plan.vocabulary(), plan.distilled(), plan.finetuned(run), plan.tested(run))]

    before = keys()
    deep = tmp_path / "gin" / "models" / "t5.gin"
    deep.write_text(deep.read_text() + "# edited\n")
    after = keys()
    assert before[0] == after[0] and not set(before[1:]) & set(after[1:])
    # A file in the working directory comes before the engine's file with the same name.
    own = tmp_path / "t5x" / "configs" / "runs" / "finetune.gin"
    own.parent.mkdir(parents=True)
    own.write_text("# another\n")
    last = keys()
    assert last[:2] == after[:2] and not set(last[2:]) & set(after[2:])
    (tmp_path / "gin" / "distill_base.gin").write_text("# no recipe of the demo\n")
    assert keys() == last
    deep.write_text('include "gin/nowhere.gin"\n')
    with pytest.raises(MissingDataError, match=r"gin/nowhere\.gin"):
        keys()


def claim(root):
    return claimed(root, root / ".stages")


def test_a_new_an_empty_and_an_old_folder_can_be_used(tmp_path):
    (tmp_path / "empty").mkdir()
    for root in (tmp_path / "new" / "deep", tmp_path / "empty", tmp_path / "empty"):
        with claim(root):
            (root / "something").write_text("")


def test_a_folder_with_other_files_is_refused(tmp_path):
    (tmp_path / "thesis.tex").write_text("")
    with pytest.raises(SettingError, match=r"thesis\.tex"), claim(tmp_path):
        pass
    assert os.listdir(tmp_path) == ["thesis.tex"]


def test_a_file_instead_of_a_folder_is_refused(tmp_path):
    (tmp_path / "out").write_text("")
    with pytest.raises(SettingError, match="a file"), claim(tmp_path / "out"):
        pass


def test_an_unwritable_folder_is_an_error(tmp_path):
    if os.geteuid() == 0:
        # Root may write anywhere except below a file.
        (tmp_path / "file").write_text("")
        root = tmp_path / "file" / "out"
    else:
        tmp_path.chmod(stat.S_IRUSR | stat.S_IXUSR)
        root = tmp_path / "out"
    with pytest.raises(SettingError, match="can be written"), claim(root):
        pass


def _hold(root, ready, release):
    with claim(root):
        ready.set()
        release.wait(30)


def test_two_demos_do_not_share_a_folder(tmp_path, monkeypatch):
    context = multiprocessing.get_context("spawn")
    ready, release = context.Event(), context.Event()
    other = context.Process(target=_hold, args=(tmp_path / "out", ready, release))
    other.start()
    assert ready.wait(30)
    monkeypatch.setattr(ledger_module, "PATIENCE_SECONDS", 0.1)
    with pytest.raises(SettingError, match="one that is running"), claim(tmp_path / "out"):
        pass
    release.set()
    other.join(30)
    with claim(tmp_path / "out"):
        pass
