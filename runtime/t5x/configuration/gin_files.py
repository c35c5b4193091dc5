"""Gin for the commands: lookup of files, bindings from the command line, and errors that users can fix."""

from __future__ import annotations

import difflib
import functools
import importlib.util
import os
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import jax
from etils import epath

import gin
from fsa_base import extras
from fsa_base.disk import replacing
from fsa_base.errors import FsaError, SettingError
from t5x import installed
from t5x.configuration import gin_types

# So that "t5x/configs/runs/pretrain.gin" is found from any directory.
_ENGINE_PARENT = str(Path(__file__).resolve().parents[1])


def rewrite_gin_args(args: Sequence[str]) -> list[str]:
    """Returns ``args`` with every ``--gin.NAME=VALUE`` rewritten to ``--gin_bindings=NAME = VALUE``.

    Raises:
      SettingError: ``--gin.NAME`` without ``=VALUE``.
    """
    return [_rewrite(argument) for argument in args]


def _rewrite(argument: str) -> str:
    if not argument.startswith("--gin."):
        return argument
    name, equals, value = argument.removeprefix("--gin.").partition("=")
    if not equals:
        raise SettingError(
            argument, expected="--gin.NAME=VALUE", found="no '='", fix=f"write --gin.{name}=VALUE, without spaces"
        )
    return f"--gin_bindings={name} = {value}"


def parse_gin_flags(
    gin_search_paths: Sequence[str],
    gin_files: Sequence[str],
    gin_bindings: Sequence[str],
    skip_unknown: bool | Sequence[str] = False,
    finalize_config: bool = True,
    strict: bool = False,
) -> list[str]:
    """Parses gin files in order, then bindings in order; later values override earlier ones.

    A relative file name is searched below the working directory, each search path, the directory that contains the
    package ``t5x``, and the folders of installed distributions (:mod:`t5x.installed`), in this order; in
    each of them as a file, then as a resource of a Python package. So a file in the working directory can replace
    ``t5x/configs/...``, and one in a search path cannot.

    With ``strict``, binding a macro or a scope that no file uses, and values of the wrong type, are errors too; gin
    silently accepts both.

    Returns:
      The names of the files that were read, with those that they include.

    Raises:
      SettingError: A file is not found, there is a syntax error or an unknown name, or a required macro is not set.
    """
    prefixes = _search_prefixes(gin_search_paths)
    for prefix in prefixes[1:]:
        if prefix not in gin.config._LOCATION_PREFIXES:
            gin.add_config_file_search_path(prefix)
    read: list[str] = []
    for name in gin_files:
        where = f"--gin_file={name}"
        parsed = _parse(where, prefixes, functools.partial(gin.parse_config_file, name, skip_unknown=skip_unknown))
        read += _names(parsed)
    of_files = gin.config_str() if strict else ""
    for binding in gin_bindings:
        parse = functools.partial(gin.parse_config, binding, skip_unknown=skip_unknown)  # type: ignore[arg-type]
        _parse(_flag(binding), prefixes, parse)
    if strict and gin_files:  # without any file, the missing file is reported later
        _require_references(gin_bindings, of_files, gin.config_str())
    if finalize_config:
        _parse("gin configuration", prefixes, gin.finalize)
    if strict:
        gin_types.check()
    return read


def _flag(binding: str) -> str:
    return f"--gin.{re.sub(r' = ', '=', binding, count=1)}"


def _require_references(bindings: Sequence[str], of_files: str, complete: str) -> None:
    """Refuses bindings that have no effect.

    Args:
      bindings: Bindings from the command line.
      of_files: Gin's configuration before them. Names that a file binds count as used.
      complete: Gin's configuration with them.

    Raises:
      SettingError: There is such a binding.
    """
    macros = set(re.findall(r"%([A-Za-z_]\w*)", complete)) | set(re.findall(r"(?m)^(\w+) =", of_files))
    scopes = set(re.findall(r"\b(\w+)/", "\n".join(re.findall(r"@[\w/.]+|(?m:^[\w/.]+)", of_files))))
    for binding in bindings:
        left = re.sub(r"/(gin\.)?macro\.value$", "", binding.partition("=")[0].strip())
        if not re.fullmatch(r"[\w/.]+", left):
            continue  # an import or an include
        *used, name = left.split("/")
        missing = [(scope, scopes, "scope") for scope in used if scope not in scopes]
        if not used and "." not in name and name not in macros:
            missing = [(name, macros, "macro")]
        for unknown, known, kind in missing:
            close = difflib.get_close_matches(unknown, sorted(known), 1)
            raise SettingError(
                _flag(binding),
                expected=f"a {kind} that a gin file binds or refers to",
                found=f"none named {unknown}" + (f", but {close[0]}" if close else ""),
                fix="correct the name, or leave it out: it would change nothing",
            )


def require_files(gin_search_paths: Sequence[str], gin_files: Sequence[str]) -> None:
    """Checks that every gin file exists, before the slow imports.

    Raises:
      SettingError: A file is not found.
    """
    prefixes = _search_prefixes(gin_search_paths)
    for name in gin_files:
        roots = [""] if os.path.isabs(name) else prefixes
        if not any(os.path.isfile(os.path.join(root, name)) for root in roots) and not _is_resource(name):
            raise _missing_file(f"--gin_file={name}", name, prefixes)


def _is_resource(name: str) -> bool:
    package, _, file = name.rpartition("/")
    try:
        spec = importlib.util.find_spec(package.replace("/", ".")) if package else None
    except (ImportError, ValueError):
        return False
    return spec is not None and spec.origin is not None and (Path(spec.origin).parent / file).is_file()


def _search_prefixes(search_paths: Sequence[str]) -> list[str]:
    """Returns the directories to search, in order; '' is the working directory, where gin starts."""
    below = [path for path in search_paths if path not in ("", ".")]
    # What is installed comes last, after all directories that the user gives.
    return list(dict.fromkeys(["", *below, _ENGINE_PARENT, *installed.gin_search_paths()]))


def _names(parsed: Any) -> list[str]:
    """Returns the names of a parsed gin file and of all files that it includes."""
    return [parsed.filename, *(name for included in parsed.includes for name in _names(included))]


def origins(names: Iterable[str], gin_search_paths: Sequence[str]) -> list[str]:
    """Returns a line for the gin files of installed distributions that were read, and for each that a local one hides.

    Args:
      names: Names of gin files, as :func:`parse_gin_flags` returns them.
      gin_search_paths: The search paths with which they were parsed.
    """
    lines = []
    prefixes = _search_prefixes(gin_search_paths)
    for folder in installed.gin_search_paths():
        if os.path.samefile(folder, os.getcwd()):
            continue
        from_there = []
        for name in dict.fromkeys(names):
            theirs = os.path.join(folder, name)
            if not os.path.isfile(theirs):
                continue
            read = next(file for root in prefixes if os.path.isfile(file := os.path.join(root, name)))
            if os.path.samefile(read, theirs):
                from_there.append(name)
            else:
                lines.append(f"gin: {os.path.abspath(read)} is read instead of the installed {theirs}")
        if from_there:
            lines.append(f"gin: {', '.join(from_there)} from {folder}")
    return lines


def _parse(where: str, prefixes: Sequence[str], parse: Callable[[], Any]) -> Any:
    try:
        return parse()
    except FsaError:
        raise
    except OSError as error:
        missing = re.match(r"Unable to open file: (.*)\. Searched config paths", str(error))
        if missing is None:
            raise
        raise _missing_file(where, missing.group(1), prefixes) from error
    except SyntaxError as error:
        raise _syntax_error(where, error) from error
    except (ImportError, AttributeError, NameError, ValueError, TypeError) as error:
        raise _name_error(where, error) from error


def _missing_file(where: str, name: str, prefixes: Sequence[str]) -> SettingError:
    roots = [""] if os.path.isabs(name) else prefixes
    searched = ", ".join(os.path.join(prefix or os.getcwd(), name) for prefix in roots)
    return SettingError(
        where if name in where else f"{where}, include '{name}'",
        expected=f"the gin file {name}",
        found=f"nothing at any of: {searched}",
        fix="correct the name, start from the folder that has it, or add --gin_search_paths=DIRECTORY",
    )


def _syntax_error(where: str, error: SyntaxError) -> SettingError:
    if error.filename not in (None, "None"):
        where = f"{error.filename}:{error.lineno}"
    return SettingError(
        where,
        expected="gin: NAME = VALUE, where VALUE is a Python literal, %MACRO or @reference()",
        found=f"{(error.text or '').strip() or error.msg} ({error.msg})" if error.text else str(error.msg),
        fix="""a string needs its own quotes, in a shell --gin.NAME="'text'" """.strip(),
    )


def _name_error(where: str, error: Exception) -> SettingError:
    if isinstance(error, ImportError) and (for_user := extras.error_of(error)):
        return for_user
    message = str(error).strip()
    place = re.search(r'In file "([^"\n]+)", line (\d+)', message)
    if place:
        where = f"{place.group(1)}:{place.group(2)}"
    reason = message.splitlines()[0] if message else type(error).__name__
    unset = re.search(r"(?<!\S)(\S+?)(?:/gin\.macro|/macro)?(?:\.value)? set to `%gin\.REQUIRED`", message)
    if unset:
        name = unset.group(1)
        return SettingError(
            name,
            expected="a value: it is required and has no default",
            found="%gin.REQUIRED",
            fix=f"add --gin.{name}=VALUE (a string with its own quotes: --gin.{name}=\"'text'\")",
        )
    macro = re.search(r"No bindings specified for '(\w+)/(?:gin\.)?macro'", message)
    if macro:
        return SettingError(
            where,
            expected=f"a macro {macro.group(1)}",
            found="no value for it",
            fix=f"set it in a gin file or by --gin.{macro.group(1)}=VALUE",
        )
    if isinstance(error, ImportError):
        fix = "start from the project's root (or set PYTHONPATH to it), and check the name in the import"
    else:
        fix = "check the spelling; a command-line binding reaches only what a gin file already refers to"
    return SettingError(where, expected="names that exist", found=reason, fix=fix)


def bound(function: Callable[..., Any]) -> Callable[..., Any]:
    """Returns ``function`` with the arguments that gin binds.

    Raises:
      SettingError: No gin file refers to it.
    """
    try:
        return gin.get_configurable(function)
    except (ValueError, KeyError) as error:
        raise SettingError(
            "--gin_file",
            expected=f"a gin file that binds {function.__name__}, such as t5x/configs/runs/pretrain.gin",
            found="none" if not gin.config_str().strip() else f"bindings, none of {function.__name__}",
            fix="add --gin_file=FILE",
        ) from error


def get_gin_config_str(show_provenance: bool = False) -> str:
    """Returns the whole gin configuration as text; with ``show_provenance`` only the bindings used so far."""
    return gin.operative_config_str() if show_provenance else gin.config_str()


def summarize_gin_config(model_dir: str, summary_writer: Any | None, step: int) -> None:
    """Writes ``model_dir/config.gin`` and the text summary ``config`` of ``summary_writer``, on process 0 only."""
    if jax.process_index() != 0:
        return
    text = get_gin_config_str()
    epath.Path(model_dir).mkdir(parents=True, exist_ok=True)
    with replacing(epath.Path(model_dir) / "config.gin") as partial:
        partial.write_text(text)
    if summary_writer is not None:
        summary_writer.write_texts(step, {"config": gin.markdown(text)})
        summary_writer.flush()


def bool_fn(var1: Any = False) -> bool:
    """Returns the truth of ``var1``, for gin macros."""
    return bool(var1)


def sum_fn(var1: Any = 0, var2: Any = 0) -> Any:
    """Returns ``var1 + var2``, for gin macros such as the steps of pre-training plus those of fine-tuning."""
    return var1 + var2


def string_split_fn(text: str = "", separator: str | None = None, maxsplit: int = -1, index: int | None = None) -> Any:
    """Returns ``text`` split at ``separator``, or the part at ``index``, for gin macros."""
    parts = text.split(separator, maxsplit)
    return parts if index is None else parts[index]
