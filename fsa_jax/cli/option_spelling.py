"""Rewrites the words of a command line to those that jsonargparse accepts.

jsonargparse accepts only the exact name of a parameter, needs ``true`` or ``false`` after a boolean option, and takes
lists and mappings only as one word of JSON. Users also write ``--dry-run`` for ``dry_run``, ``--no-send-seed``, the
beginning of a name, and several words for a list or mapping.
"""

from __future__ import annotations

import json

from fsa_base.errors import SettingError
from fsa_jax.cli.parameters import Command, Parameter, is_option, parameters_of

COMMON_OPTIONS = ("config", "print_config", "help")
"""Options of every command."""
_ENGINE_FLAGS = "engine_flags"
"""The parameter for flags of the training engine, which users write as they are (``--gin.NAME=VALUE``)."""


def option_key(word: str) -> str:
    """The name of an option's parameter: ``dry_run`` for ``--dry-run=true``, ``columns`` for ``--columns.text``."""
    return word.removeprefix("--").partition("=")[0].partition(".")[0].replace("-", "_")


def spelt_out(command: Command, arguments: list[str]) -> list[str]:
    """Converts arguments to jsonargparse's spelling; arguments that are not options of ``command`` are unchanged.

    The words of a list option end at the next option or at ``--``; those of a mapping also end at a word without ``=``.
    A positional list has the positional words that the other positional parameters do not need.

    Raises:
      SettingError: a word of a list or mapping has the wrong form.

    Example:
      ``["a.jsonl", "b.jsonl", "out.parquet", "--dry-run", "--no-send-seed", "--domain-ratio", "x=1", "y=2"]`` becomes
      ``['["a.jsonl", "b.jsonl"]', "out.parquet", "--dry_run=true", "--send_seed=false", '--domain_ratio={"x": 1.0, "y":
      2.0}']``
    """
    parameters = parameters_of(command)
    words = list(arguments)
    given: set[str] = set()
    result: list[str] = []
    positional: list[int] = []
    engine_flags: list[str] = []
    inputs: list[str] = []
    while words:
        word = words.pop(0)
        if word == "--":
            inputs = [word, *words]
            break
        if _ENGINE_FLAGS in parameters and (flag := _engine_flag(word, words)):
            engine_flags.append(flag)
        elif is_option(word):
            result += _option(word, words, parameters, given)
        else:
            positional.append(len(result))
            result.append(word)
    if engine_flags:
        if any(word.startswith(f"--{_ENGINE_FLAGS}") for word in result):
            raise SettingError(
                "--engine-flags",
                expected="all flags of the engine in one way",
                found=f"also {engine_flags[0]}",
                fix="leave out --engine-flags, and write its flags as they are",
            )
        result.append(f"--{_ENGINE_FLAGS}={json.dumps(engine_flags)}")
    positional += range(len(result) + 1, len(result) + len(inputs))
    return _positional_list_joined(result + inputs, positional, parameters)


def _engine_flag(word: str, words: list[str]) -> str | None:
    """A flag of the training engine with its value, which is removed from ``words``; None if it is not one."""
    from fsa_jax.training.engine_command import ENGINE_FLAGS

    option, equals, _ = word.partition("=")
    name = option.removeprefix("--").replace("-", "_")
    if word.startswith(("--gin.", "--jax_")):
        return word
    if not word.startswith("--") or name not in ENGINE_FLAGS:
        return None
    if not equals and ENGINE_FLAGS[name] and words and not is_option(words[0]):
        return f"--{name}={words.pop(0)}"
    return f"--{name}{word.removeprefix(option)}"


def _option(word: str, words: list[str], parameters: dict[str, Parameter], given: set[str]) -> list[str]:
    """The new words for an option and its values, which are removed from ``words``.

    The names of lists and mappings are added to ``given``.
    """
    option, equals, value = word.partition("=")
    dot, nested = option.removeprefix("--").partition(".")[1:]
    flags = {name for name, parameter in parameters.items() if parameter.kind == "flag"}
    name = _whole_name(option_key(word), [*parameters, *(f"no_{flag}" for flag in flags), *COMMON_OPTIONS])
    if name.removeprefix("no_") in flags and name not in parameters:
        return [f"--{name.removeprefix('no_')}=false"]
    parameter = parameters.get(name.removesuffix("+"))
    if not word.startswith("--") or (parameter is None and name not in COMMON_OPTIONS):
        return [word]
    spelt = f"--{name}{dot}{nested}"
    several = parameter is not None and parameter.kind in ("list", "mapping") and name in parameters and not dot
    if equals and not several:
        return [f"{spelt}={value}"]
    if not equals and parameter is not None and parameter.kind == "flag":
        if words and words[0].lower() in ("true", "false", "yes", "no"):
            return [spelt, words.pop(0)]
        return [f"{spelt}=true"]
    if not equals and (name in ("print_config", "help") or not words or words[0] == "--" or is_option(words[0])):
        return [spelt]
    if parameter is None or not several:
        return [spelt, words.pop(0)]
    if name in given:
        raise SettingError(
            option, expected="the option once", found="it is given twice", fix=f"give all words after one {option}"
        )
    given.add(name)
    if _stays(parameter, value if equals else words[0]):
        return [f"{spelt}={value}"] if equals else [spelt, words.pop(0)]
    taken = [value] if equals else []
    while not equals and words and _belongs(parameter, words[0]):
        taken.append(words.pop(0))
    return [f"{spelt}={parameter.joined(taken, option)}"]


def _belongs(parameter: Parameter, word: str) -> bool:
    """Whether a word after a list or mapping is one of its words."""
    return word != "--" and not is_option(word) and (parameter.kind == "list" or "=" in word)


def _stays(parameter: Parameter, word: str) -> bool:
    """Whether the first word of a list or mapping is unchanged: jsonargparse reads JSON, and refuses other words."""
    return parameter.is_whole(word) or (parameter.kind == "mapping" and "=" not in word)


def _whole_name(name: str, names: list[str]) -> str:
    """The only one of ``names`` that starts with ``name``; ``name`` itself if there are none or several."""
    longer = [known for known in names if known.startswith(name)]
    return longer[0] if name not in names and len(longer) == 1 else name


def _positional_list_joined(result: list[str], positional: list[int], parameters: dict[str, Parameter]) -> list[str]:
    """Joins the words of the positional list, if it has several."""
    required = [parameter for parameter in parameters.values() if parameter.required]
    first = next((index for index, parameter in enumerate(required) if parameter.kind == "list"), None)
    more = len(positional) - len(required)
    if first is None or more <= 0:
        return result
    joined = positional[first : first + more + 1]
    result = list(result)
    result[joined[0]] = json.dumps([result[index] for index in joined])
    return [word for index, word in enumerate(result) if index not in joined[1:]]
