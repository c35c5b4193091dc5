"""Gin at the entry points: where files are found, what wins, and how mistakes are answered."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import tiny_run

import gin
from fsa_base.errors import SettingError
from t5x import gin_utils
from t5x.eval import evaluate
from t5x.infer import create_task_from_tfexample_file, infer
from t5x.train import train

RUNS = "t5x/configs/runs"


@pytest.fixture(autouse=True)
def _fresh(monkeypatch):
    for function in (train, evaluate, infer, create_task_from_tfexample_file):
        monkeypatch.setattr(sys.modules["__main__"], function.__name__, function, raising=False)
    prefixes = list(gin.config._LOCATION_PREFIXES)
    gin.clear_config(clear_constants=True)
    yield
    gin.clear_config(clear_constants=True)
    gin.config._LOCATION_PREFIXES[:] = prefixes


def _parse(*files: str, bindings: tuple[str, ...] = (), search: tuple[str, ...] = (".",)) -> None:
    gin_utils.parse_gin_flags(search, files, bindings)


def _file(directory: Path, text: str, name: str = "a.gin") -> str:
    path = directory / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return str(path)


def _macro(name: str):
    return gin.query_parameter(f"{name}/macro.value")


def test_name_equals_value_becomes_a_binding():
    assert gin_utils.rewrite_gin_args(["x", "--gin.A='b=c'", "--verbose"]) == [
        "x",
        "--gin_bindings=A = 'b=c'",
        "--verbose",
    ]
    with pytest.raises(SettingError, match=r"expected --gin\.NAME=VALUE"):
        gin_utils.rewrite_gin_args(["--gin.A"])


def test_a_later_file_and_then_a_binding_win(tmp_path):
    first, second = _file(tmp_path, "A = 1\nB = 1\nC = 1"), _file(tmp_path, "B = 2\nC = 2", "b.gin")
    _parse(first, second, bindings=("C = 3", "C = 4"))
    assert [_macro(name) for name in "ABC"] == [1, 2, 4]


def test_the_working_directory_shadows_a_search_path_and_the_engine(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    _file(tmp_path, "A = 'search'", "search/x/a.gin")
    _parse("x/a.gin", search=("search",))
    assert _macro("A") == "search"
    _file(tmp_path, "A = 'cwd'", "x/a.gin")
    gin.clear_config()
    _parse("x/a.gin", search=("search",))
    assert _macro("A") == "cwd"


def test_the_engine_s_files_are_found_from_any_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    gin_utils.parse_gin_flags(["."], [f"{RUNS}/pretrain.gin"], [], finalize_config=False)
    assert _macro("BATCH_SIZE") == 128


def test_for_a_missing_file_the_error_lists_the_searched_places(tmp_path):
    with pytest.raises(SettingError) as error:
        _parse("no/such.gin", search=(str(tmp_path),))
    assert "--gin_file=no/such.gin" in str(error.value)
    assert str(tmp_path / "no/such.gin") in str(error.value)
    assert str(Path.cwd() / "no/such.gin") in str(error.value)
    with pytest.raises(SettingError, match=r"include 'gone\.gin'"):
        _parse(_file(tmp_path, "include 'gone.gin'"))


def test_an_unquoted_string_says_how_to_quote():
    with pytest.raises(SettingError, match="a string needs its own quotes"):
        _parse(bindings=("MODEL_DIR = /tmp/x",))


def test_a_syntax_error_in_a_file_names_its_line(tmp_path):
    path = _file(tmp_path, "A = 1\nB = = 2\n")
    with pytest.raises(SettingError, match=r"a\.gin:2"):
        _parse(path)


def test_names_that_do_not_exist(tmp_path):
    head = "from __gin__ import dynamic_registration\nfrom t5x import utils\n"
    with pytest.raises(SettingError, match="DatasetConfi"):
        _parse(_file(tmp_path, head + "utils.DatasetConfi.seed = 1"))
    with pytest.raises(SettingError, match="sed"):
        _parse(_file(tmp_path, head + "utils.DatasetConfig.sed = 1"))
    with pytest.raises(SettingError, match="no_such_module"):
        _parse(_file(tmp_path, "import no_such_module"))
    with pytest.raises(SettingError, match="expected names that exist, found No configurable matching 'nothing'"):
        _parse(bindings=("nothing.x = 1",))


@pytest.mark.parametrize(
    ("binding", "complaint"),
    [
        ("TRAIN_STEP = 3", r"--gin\.TRAIN_STEP=3: expected a macro .* found none named TRAIN_STEP, but TRAIN_STEPS"),
        ("NOTHING_LIKE_IT = 3", "found none named NOTHING_LIKE_IT\n"),
        ("trian/utils.DatasetConfig.seed = 3", "expected a scope .* found none named trian, but train"),
    ],
)
def test_a_binding_without_effect_is_refused(binding, complaint):
    with pytest.raises(SettingError, match=complaint):
        _parse_pretraining(binding)


@pytest.mark.parametrize(
    "binding",
    [
        "TRAIN_STEPS = 3",  # bound by the file
        "MODEL = 3",  # referred to by the file
        "BATCH_SIZE/macro.value = 3",
        "train/utils.DatasetConfig.seed = 3",
        "from t5x import trainer",
    ],
)
def test_a_binding_that_a_file_uses_is_accepted(binding):
    _parse_pretraining(binding)


def _parse_pretraining(binding: str) -> None:
    gin_utils.parse_gin_flags(["."], [f"{RUNS}/pretrain.gin"], [binding], finalize_config=False, strict=True)


def test_bindings_may_refer_to_each_other(tmp_path):
    gin_utils.parse_gin_flags([], [_file(tmp_path, "A = 1")], ["NEW = 2", "A = %NEW"], strict=True)
    assert _macro("NEW") == 2


REST = ("MODEL_DIR = 'm'", "MIXTURE_OR_TASK_NAME = 't'", "TRAIN_STEPS = 3", "TASK_FEATURE_LENGTHS = {'inputs': 4}")


@pytest.mark.parametrize(
    ("binding", "complaint"),
    [
        (
            "TRAIN_STEPS = 2e5",
            r"TRAIN_STEPS: expected an integer, as .*train.total_steps takes, found 200000.0\n.*=200000$",
        ),
        ("TRAIN_STEPS = '3'", "TRAIN_STEPS: expected an integer.* found '3'"),
        ("MODEL_DIR = 3", "MODEL_DIR: expected a string.* found 3"),
        ("TASK_FEATURE_LENGTHS = 128", "TASK_FEATURE_LENGTHS: expected a dictionary.* found 128"),
        ("USE_CACHED_TASKS = 'yes'", "USE_CACHED_TASKS: expected True or False.* found 'yes'"),
        (
            "train/utils.DatasetConfig.seed = 1.5",
            r"train/t5x\.utils\.DatasetConfig\.seed: expected an integer, found 1\.5",
        ),
        (
            "train.on_corrupt_checkpoint = 'previuos'",
            r"train.on_corrupt_checkpoint: expected 'error' or 'previous', found 'previuos', which is near 'previous'\n"
            r".*--gin\.\S*train.on_corrupt_checkpoint=\"'previous'\"$",
        ),
        ("train.on_corrupt_checkpoint = 'previous'", None),
        ("trainer.Trainer.learning_rate_fn = 3", None),  # what only a run can judge
        ("RANDOM_SEED = None", None),
        ("train.eval_period = 7", None),
    ],
)
def test_values_of_the_wrong_type_are_named_before_anything_runs(binding, complaint):
    def parse() -> None:
        bindings = ["MODEL = None", *REST, binding]
        gin_utils.parse_gin_flags(["."], [f"{RUNS}/pretrain.gin"], bindings, strict=True)

    if complaint is None:
        parse()
    else:
        with pytest.raises(SettingError, match=complaint):
            parse()


def test_a_required_macro_is_named_with_the_flag_that_sets_it():
    with pytest.raises(SettingError) as error:
        _parse(
            f"{RUNS}/pretrain.gin",
            bindings=("MODEL = 1", "TRAIN_STEPS = 1", "MODEL_DIR = ''", "TASK_FEATURE_LENGTHS = {}"),
        )
    assert error.value.where == "MIXTURE_OR_TASK_NAME"
    assert "--gin.MIXTURE_OR_TASK_NAME=" in error.value.fix


def test_an_unset_macro_is_named_in_the_error():
    required = ("MIXTURE_OR_TASK_NAME", "TASK_FEATURE_LENGTHS", "TRAIN_STEPS", "MODEL_DIR")
    with pytest.raises(SettingError, match="expected a macro MODEL"):
        _parse(f"{RUNS}/pretrain.gin", bindings=tuple(f"{name} = 1" for name in required))


CONTRACT = {
    "pretrain": (
        {"MIXTURE_OR_TASK_NAME", "TASK_FEATURE_LENGTHS", "TRAIN_STEPS", "MODEL_DIR"},
        {
            "BATCH_SIZE": 128,
            "USE_CACHED_TASKS": True,
            "SHUFFLE_TRAIN_EXAMPLES": True,
            "USE_HARDWARE_RNG": False,
            "RANDOM_SEED": None,
            "TRAIN_STEPS_RELATIVE": None,
            "MIXTURE_OR_TASK_MODULE": None,
        },
    ),
    "finetune": (
        {"MIXTURE_OR_TASK_NAME", "TASK_FEATURE_LENGTHS", "TRAIN_STEPS", "MODEL_DIR", "INITIAL_CHECKPOINT_PATH"},
        {
            "DROPOUT_RATE": 0.1,
            "EVAL_STEPS": 20,
            "EVAL_PERIOD": 1000,
            "EVALUATOR_USE_MEMORY_CACHE": True,
            "EVALUATOR_NUM_EXAMPLES": None,
            "JSON_WRITE_N_RESULTS": None,
        },
    ),
    "eval": ({"MIXTURE_OR_TASK_NAME", "CHECKPOINT_PATH", "EVAL_OUTPUT_DIR"}, {"TASK_FEATURE_LENGTHS": None}),
    "infer": ({"MIXTURE_OR_TASK_NAME", "TASK_FEATURE_LENGTHS", "CHECKPOINT_PATH", "INFER_OUTPUT_DIR"}, {}),
}


@pytest.mark.parametrize("name", CONTRACT)
def test_run_files_have_the_macros_of_t5x(name):
    required, defaults = CONTRACT[name]
    gin_utils.parse_gin_flags(["."], [f"{RUNS}/{name}.gin"], [], finalize_config=False)
    assert {macro: _macro(macro) for macro in defaults} == defaults
    assert all("gin.REQUIRED" in repr(_macro(macro)) for macro in required)


def test_a_binding_reaches_what_a_file_refers_to():
    gin_utils.parse_gin_flags(
        ["."],
        [f"{RUNS}/pretrain.gin"],
        ["train.eval_period = 7", "train/utils.DatasetConfig.seed = 5"],
        finalize_config=False,
    )
    assert gin.query_parameter("train.eval_period") == 7
    assert gin.query_parameter("train/utils.DatasetConfig.seed") == 5


def test_an_error_of_the_user_is_two_lines_and_exit_status_2(tmp_path):
    process = tiny_run.command("t5x.main", "--run_mode=train", "--gin_file=no_such.gin")
    errors = process.communicate(timeout=300)[1]
    assert process.returncode == 2
    assert len(errors.splitlines()) == 2 and "Traceback" not in errors, errors
    assert errors.startswith("t5x.main: --gin_file=no_such.gin: expected the gin file no_such.gin")
