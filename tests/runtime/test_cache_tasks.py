"""The caching command: repeated list flags, its lines and files, and that the environment's command is ours."""

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from fsa_base.errors import SettingError
from t5x import cache_tasks
from t5x.cache_tasks import fitting_files, with_joined_lists


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--tasks=a", "--module_import=m", "--tasks=b,c"], ["--tasks=a,b,c", "--module_import=m"]),
        (["--tasks", "a", "-tasks", "b", "--overwrite"], ["--tasks=a,b", "--overwrite"]),
        (["--module_import=m", "--module_import=n"], ["--module_import=m", "--module_import=n"]),
        (["--tasks=a", "--", "--tasks=b"], ["--tasks=a", "--", "--tasks=b"]),
        (["tasks", "--tasksx=a", "--pipeline_options=--x=1"], ["tasks", "--tasksx=a", "--pipeline_options=--x=1"]),
    ],
)
def test_repeated_lists_are_joined(arguments, expected):
    assert with_joined_lists(arguments) == expected


def test_the_command_of_this_environment_is_ours():
    script = Path(sys.executable).with_name("seqio_cache_tasks")
    assert "t5x.cache_tasks" in script.read_text(), "pip install -e ./runtime brings it"


@pytest.mark.parametrize(("examples", "files"), [(0, 1), (400, 1), (4096, 1), (4097, 2), (10**6, 64), (None, 64)])
def test_the_number_of_files_fits_the_number_of_examples(examples, files):
    assert fitting_files(examples) == files


def test_caching_prints_one_line_per_task_and_writes_fitting_files(tmp_path):
    unfinished = tmp_path / "tiny_cacheable" / "train.tfrecord-00063-of-00064"
    unfinished.parent.mkdir()
    unfinished.write_bytes(b"of a caching that was killed")
    command = [sys.executable, "-m", "t5x.cache_tasks", "--module_import=tiny_tasks", "--tasks=tiny_cacheable"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])}
    command.append(f"--output_cache_dir={tmp_path}")
    run = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert run.returncode == 0, run.stderr
    (line,) = run.stderr.splitlines()
    assert line.startswith("tiny_cacheable: caching train") and f": {tmp_path / 'tiny_cacheable'}" in line
    assert [file.name for file in tmp_path.glob("tiny_cacheable/train.tfrecord-*")] == ["train.tfrecord-00000-of-00001"]


def test_a_misspelt_task_is_an_error_with_the_nearest_name():
    known = ["fsa_analysis", "fsa_rewriting"]
    assert cache_tasks._chosen(known, {}, ["fsa_.*"], ["fsa_rew.*"]) == ["fsa_analysis"]
    with pytest.raises(SettingError, match="near 'fsa_analysis'"):
        cache_tasks._chosen(known, {}, ["fsa_anlysis"], [])
    with pytest.raises(SettingError, match="unterminated character set"):
        cache_tasks._chosen(known, {}, ["fsa_["], [])
    mixture = SimpleNamespace(tasks=[SimpleNamespace(name=name) for name in known])
    with pytest.raises(SettingError, match="--tasks=fsa_analysis --tasks=fsa_rewriting"):
        cache_tasks._chosen(known, {"fsa_distill": mixture}, ["fsa_distill"], [])
