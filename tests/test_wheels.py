"""fsa_jax works from its wheels, without a checkout: gin files and tasks are found by the names in the docs."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest
from wheel_environment import ROOT, WheelEnvironment

_READ = """
import sys
from t5x import installed
from t5x.configuration import gin_files

names = gin_files.parse_gin_flags(["."], ["gin/eval_tiny.gin"], [], skip_unknown=True, finalize_config=False)
print(*gin_files.origins(names, ["."]), installed.task_module("tasks"), sep="\\n")
"""


@pytest.fixture(scope="module")
def wheels(tmp_path_factory) -> WheelEnvironment:
    return WheelEnvironment(tmp_path_factory.mktemp("wheels"), ("base", ".", "runtime"))


@pytest.fixture
def installed(wheels) -> Path:
    """The folder of the installed fsa_jax."""
    return wheels.packages / "fsa_jax"


def test_the_wheel_holds_gin_files_tasks_and_templates_in_the_package_and_nothing_elsewhere(wheels):
    with zipfile.ZipFile(wheels.wheels["."]) as wheel:
        found = {name for name in wheel.namelist() if ".dist-info/" not in name}
    sources = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "fsa_jax").rglob("*")
        if path.is_file() and path.suffix != ".pyc"
    }
    recipes = {f"fsa_jax/{path.relative_to(ROOT).as_posix()}" for path in (ROOT / "gin").rglob("*.gin")}
    assert found == sources | recipes
    assert "fsa_jax/tasks.py" in found and "fsa_jax/gin/models/t5.gin" in found


def test_the_command_of_the_docs_runs_in_an_empty_folder(wheels, installed, tmp_path):
    ran = wheels.run("-m", "t5x.train", "--gin_file=gin/distill_base.gin", "--dry_run", cwd=tmp_path)
    assert ran.returncode == 0, ran.stderr
    assert (
        f"gin/distill_base.gin, gin/models/t5_1_0_base.gin, gin/models/t5.gin, gin/shared/distill.gin from {installed}"
        in ran.stderr
    )
    assert "TRAIN_STEPS = 200000" in ran.stdout and list(tmp_path.iterdir()) == []


def test_local_files_win_and_the_run_says_which_were_read(wheels, installed, tmp_path):
    ran = wheels.run("-c", _READ, cwd=tmp_path)
    assert ran.returncode == 0, ran.stderr
    *lines, module = ran.stdout.splitlines()
    assert lines == [f"gin: gin/eval_tiny.gin, gin/models/t5_demo.gin, gin/models/t5.gin from {installed}"]
    assert module == "fsa_jax.tasks"
    (tmp_path / "gin" / "models").mkdir(parents=True)
    (tmp_path / "gin" / "models" / "t5_demo.gin").write_text('include "gin/models/t5.gin"\nVOCABULARY_ROWS = 256\n')
    (tmp_path / "tasks.py").write_text("")
    ran = wheels.run("-c", _READ, cwd=tmp_path)
    assert ran.returncode == 0, ran.stderr
    *lines, module = ran.stdout.splitlines()
    local, theirs = tmp_path / "gin/models/t5_demo.gin", installed / "gin/models/t5_demo.gin"
    assert lines == [
        f"gin: {local} is read instead of the installed {theirs}",
        f"gin: gin/eval_tiny.gin, gin/models/t5.gin from {installed}",
    ]
    assert module == "tasks"


def test_the_installed_tasks_are_registered_by_their_short_name(wheels, installed, tmp_path):
    code = "import seqio; from t5x.installed import import_task_module as load; print(load('tasks'));"
    ran = wheels.run("-c", code + "print(load('tasks'), 'fsa_distill' in seqio.MixtureRegistry.names())", cwd=tmp_path)
    assert ran.stdout.splitlines() == [f"tasks: {installed / 'tasks.py'}", " True"], ran.stderr


def test_advice_fits_an_installation_from_wheels(wheels, tmp_path):
    code = "from fsa_base import extras; print(extras.install('cuda')); print(extras.not_installed('jax').fix)"
    ran = wheels.run("-c", code, cwd=tmp_path)
    pip = "pip install -c constraints.txt"
    assert ran.stdout.splitlines() == [
        f"{pip} 'fsa-jax[cuda]'",
        f"{pip} 'fsa-jax[cpu]', or only this extra: {pip} 'fsa-jax[train]'",
    ], ran.stderr
