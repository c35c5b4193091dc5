"""The caching command: repeated list flags, and that the environment's command is ours."""

import sys
from pathlib import Path

import pytest

from t5x.cache_tasks import with_joined_lists


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
