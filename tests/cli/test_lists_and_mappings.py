"""Lists, mappings and several inputs are plain words on the command line; JSON and YAML files work as before."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fsa_base.errors import SettingError
from fsa_jax.cli.command_parser import parser_of
from fsa_jax.cli.option_spelling import spelt_out
from fsa_jax.cli.parameters import is_option


def command(
    sources: list[str] | str,
    output: Path,
    model: str,
    prompts: list[str] | None = None,
    rates: tuple[float, ...] = (1.0,),
    catalog: list[Path] | None = None,
    ratio: dict[str, float] | None = None,
    columns: dict[str, str] | None = None,
    engine_args: dict[str, Any] | None = None,
    categories: dict[str, list[str]] | None = None,
    level: Literal["low", "high"] = "low",
    dry_run: bool = False,
) -> None:
    """An example command."""


INPUTS = ["in.jsonl", "out.parquet", "model"]


def parsed(*words: str) -> dict[str, Any]:
    return parser_of("example", command).parse_args([*words]).as_dict()


@pytest.mark.parametrize(
    ("words", "key", "value"),
    [
        (["--prompts", "analysis", "rewriting"], "prompts", ["analysis", "rewriting"]),
        (["--prompts=analysis"], "prompts", ["analysis"]),
        (["--prompts", '["a", "b"]'], "prompts", ["a", "b"]),
        (["--prompts", "null"], "prompts", None),
        (["--prompts+", "a"], "prompts", ["a"]),
        (["--prompts", "1", "true", "null"], "prompts", ["1", "true", "null"]),
        (["--rates", "1e-4", "3e-4", "-2", "-1e-3"], "rates", (1e-4, 3e-4, -2.0, -1e-3)),
        (["--catalog", "a b.json", "c.json"], "catalog", [Path("a b.json"), Path("c.json")]),
        (["--ratio", "restaurants=2", "hotels=1"], "ratio", {"restaurants": 2.0, "hotels": 1.0}),
        (["--ratio", "1=1", "2=2.5"], "ratio", {"1": 1.0, "2": 2.5}),
        (["--ratio", '{"a": 1}'], "ratio", {"a": 1.0}),
        (["--ratio", "null"], "ratio", None),
        (["--ratio=a=1"], "ratio", {"a": 1.0}),
        (["--columns", "text=body", "stars=score"], "columns", {"text": "body", "stars": "score"}),
        (["--columns", "text=a=b", "stars="], "columns", {"text": "a=b", "stars": ""}),
        (["--columns.text-a", "body"], "columns", {"text-a": "body"}),
        (
            ["--engine-args", "max_model_len=4096", "eager=True", "dtype=half", 'more={"a": [1]}'],
            "engine_args",
            {"max_model_len": 4096, "eager": True, "dtype": "half", "more": {"a": [1]}},
        ),
        (
            ["--categories", "restaurants=Bars,Cafes", "b=re:x y"],
            "categories",
            {"restaurants": ["Bars", "Cafes"], "b": ["re:x y"]},
        ),
    ],
)
def test_lists_and_mappings_are_plain_words(words, key, value):
    assert parsed(*INPUTS, *words)[key] == value
    assert parsed(*INPUTS, *words, "--dry-run")[key] == value
    assert parsed(*words, "--", *INPUTS)[key] == value


@pytest.mark.parametrize(
    ("words", "sources"),
    [
        (["a", "out", "m"], "a"),
        (["a", "b", "c", "out", "m"], ["a", "b", "c"]),
        (['["a", "b"]', "out", "m"], ["a", "b"]),
        (["--dry-run", "a", "--level", "high", "b", "out", "--level=low", "m"], ["a", "b"]),
        (["--ratio", "x=1", "a", "b", "out", "m"], ["a", "b"]),
        (["--prompts", "p", "q", "--", "-a", "b", "out", "m"], ["-a", "b"]),
    ],
)
def test_several_inputs_are_plain_words(words, sources):
    found = parsed(*words)
    assert (found["sources"], found["output"], found["model"]) == (sources, Path("out"), "m")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--ratio", "restaurants"], "--ratio: expected KEY=NUMBER ..., or JSON, or null, found 'restaurants'"),
        (["--ratio", "a=b"], "--ratio: expected KEY=NUMBER ..., or JSON, or null, found 'b'"),
        (["--ratio", "a=1", "a=2"], "--ratio: expected each key once, found a twice"),
        (["--ratio", "[1, 2]"], "--ratio: expected KEY=NUMBER ..., or JSON, or null, found [1, 2]"),
        (["--ratio"], "--ratio: expected KEY=NUMBER ..., or JSON, or null, found nothing"),
        (["--prompts", "a", "--prompts", "b"], "--prompts: expected the option once"),
        (["--columns", '{"text": "a"}', "--columns", '{"stars": "b"}'], "--columns: expected the option once"),
        (["--columns", '{"text": "a"}', "--columns", "stars=b"], "--columns: expected the option once"),
        (["--rates", "1", "x"], "--rates: expected NUMBER ..., or JSON, found 'x'"),
        (["--level", "hihg"], "--level: expected 'low' or 'high', found 'hihg', which is near 'high'"),
        (["--dry-run=maybe"], "--dry-run: expected true or false, found 'maybe'"),
        (["--model", "m"], "write it without the name"),
        (["--prompts", "p", "--", "x", "--dry_run"], "--dry_run: expected only inputs after --, found an option"),
    ],
)
def test_a_wrong_word_is_an_error_that_says_how_to_write_it(words, told):
    with pytest.raises(SettingError) as raised:
        parsed(*INPUTS, *words)
    assert told in str(raised.value)
    assert len(str(raised.value).splitlines()) == 2


def test_a_value_that_looks_like_an_option_is_an_error_that_says_how_to_write_it():
    with pytest.raises(SettingError, match=r"^no option '-x'; .*; if it is the value of --level, write --level=-x$"):
        parsed(*INPUTS, "--level", "-x")
    with pytest.raises(SettingError, match=r"^no option '-x'; fsa example --help lists them$"):
        parsed(*INPUTS, "--dry-run", "-x")


def test_inputs_after_a_list_are_missing_and_the_error_says_why():
    with pytest.raises(
        SettingError, match=r"OUTPUT, MODEL: .*\n.*--prompts takes all words up to the next option or --"
    ):
        parsed("a.jsonl", "--prompts", "p", "out", "m")


@pytest.mark.parametrize(
    "content",
    [
        "prompts: [a, b]\nratio:\n  x-y: 2\n  1: 3\nengine-args: {max-len: 3}\ndry_run: true\n",
        "  prompts: [a, b]\n  ratio: {x-y: 2, 1: 3}\n  'engine-args' : {max-len: 3}\n  \"dry-run\": true\n",
        '{"prompts": ["a", "b"],\n\t"ratio": {"x-y": 2, "1": 3}, "engine-args": {"max-len": 3}, "dry-run": true}',
        "{prompts: [a, b], ratio: {x-y: 2, 1: 3}, engine-args: {max-len: 3}, dry-run: true}",
    ],
)
def test_config_files_have_lists_and_mappings_and_either_spelling(content, tmp_path):
    config = tmp_path / "config.yaml"
    config.write_text(content)
    found = parsed("--config", str(config), *INPUTS)
    assert (found["prompts"], found["ratio"], found["dry_run"]) == (["a", "b"], {"x-y": 2.0, "1": 3.0}, True)
    assert found["engine_args"] == {"max-len": 3}


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("ratio: {x: y}\n", "config.yaml, ratio: expected KEY=NUMBER"),
        ("prompt: [a]\n", "no option 'prompt' in --config; did you mean 'prompts'?"),
        ("dry-run: true\nratio: {a: 1}\ndry_run: false\n", "each option once, found twice: dry-run, dry_run"),
        ("ratio: {a: 1}\nratio: {b: 1}\n", "each option once, found twice: ratio"),
        ('{"dry-run": true, "dry_run": false}', "each option once, found twice: dry-run, dry_run"),
        ("ratio: [1\n", "config.yaml: expected lines OPTION: VALUE"),
    ],
)
def test_a_wrong_config_file_is_an_error(content, told, tmp_path):
    (tmp_path / "config.yaml").write_text(content)
    with pytest.raises(SettingError) as raised:
        parsed("--config", str(tmp_path / "config.yaml"), *INPUTS)
    assert told in str(raised.value)


WORDS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1).filter(lambda word: not is_option(word))


@given(st.lists(WORDS, max_size=3))
def test_words_that_are_no_options_are_unchanged(words):
    assert spelt_out(command, words) == words


@given(st.lists(st.text()), st.text())
def test_words_after_two_hyphens_and_unknown_options_are_unchanged(words, name):
    assert spelt_out(command, ["--", *words])[:1] == ["--"]
    assert spelt_out(command, [f"--x{name}"]) == [f"--x{name}"]
    assert spelt_out(command, ["--", *words[:3]]) == ["--", *words[:3]]


JSON = st.recursive(st.none() | st.booleans() | st.integers() | st.text(), lambda inner: st.lists(inner, max_size=3))


@given(st.lists(JSON, max_size=4), st.dictionaries(st.text(), JSON, max_size=4), st.booleans())
def test_json_is_unchanged(listed, mapped, joined):
    prompts, ratio = json.dumps(listed), json.dumps(mapped)
    written = [f"--prompts={prompts}", f"--ratio={ratio}"] if joined else ["--prompts", prompts, "--ratio", ratio]
    assert spelt_out(command, [*written, *INPUTS]) == [*written, *INPUTS]


@given(
    st.lists(WORDS.filter(lambda word: not word.lstrip().startswith("[") and word != "null"), min_size=1, max_size=4),
    st.dictionaries(
        WORDS.filter(lambda key: "=" not in key and not key.lstrip().startswith("{")), st.text(), max_size=4
    ),
    st.lists(WORDS, min_size=4, max_size=6),
)
def test_every_word_arrives_as_it_was_written(listed, mapped, inputs):
    mapping = [f"{key}={value}" for key, value in mapped.items()]
    found = parsed(*inputs, "--prompts", *listed, *(["--columns", *mapping] if mapping else []))
    assert found["prompts"] == listed
    assert found["columns"] == (mapped or None)
    assert found["sources"] == inputs[:-2]
