"""``seqio_cache_tasks``: SeqIO's command, with one line per task and files that fit the number of examples.

All flags are SeqIO's, and ``--verbose``. These are different:

- List flags may be repeated: ``--tasks=a --tasks=b`` caches both. SeqIO uses only the last one.
- Tasks are cached one after the other, with one line each. ``--verbose`` shows the logs of Beam and TensorFlow.
- Without ``--min_shards``, each split has one file per 4,096 examples, at most 64. SeqIO always writes 64 files.
- Without ``--pipeline_options``, Beam runs in this process. Beam's own default first tries to download another runner.
"""

from __future__ import annotations

import logging
import re
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from absl import app, flags

from fsa_base.errors import FsaError, SettingError, require_choice
from t5x import errors
from t5x.configuration import command_line
from t5x.installed import import_task_module

FLAGS = flags.FLAGS
EXAMPLES_PER_FILE = 4096
MOST_FILES = 64
RUNNER = "--runner=apache_beam.runners.portability.fn_api_runner.FnApiRunner"
"""The part of Beam's DirectRunner that runs in this process."""
_WORKERS_LOG = "--default_sdk_harness_log_level="
_LISTS = ("tasks", "excluded_tasks", "tasks_additional_cache_dirs", "pipeline_options")
"""Flags of SeqIO's command whose value is a comma-separated list."""


def with_joined_lists(arguments: Sequence[str]) -> list[str]:
    """Returns the arguments with each list flag only once, at its first position, with its values joined by commas."""
    joined: list[str] = []
    at: dict[str, int] = {}
    words = iter(arguments)
    for word in words:
        if word == "--":
            return [*joined, word, *words]
        name, equals, value = word.partition("=")
        flag = name.lstrip("-") if name.startswith("-") else ""
        if flag not in _LISTS:
            joined.append(word)
            continue
        value = value if equals else next(words, "")
        if flag in at:
            joined[at[flag]] += f",{value}"
        else:
            at[flag] = len(joined)
            joined.append(f"--{flag}={value}")
    return joined


def fitting_files(examples: int | None) -> int:
    """Returns the number of files for a split; SeqIO's 64 if its number of examples is not known."""
    return MOST_FILES if examples is None else min(MOST_FILES, max(1, -(-examples // EXAMPLES_PER_FILE)))


def _cache(command: Any) -> None:
    """Caches the chosen tasks, one after the other, with SeqIO's ``command``."""
    import seqio

    if not FLAGS.output_cache_dir:
        raise SettingError("--output_cache_dir", expected="a folder", found="nothing", fix="--output_cache_dir=cache")
    for module in filter(None, FLAGS.module_import):
        import_task_module(module)
    seqio.add_global_cache_dirs([FLAGS.output_cache_dir, *FLAGS.tasks_additional_cache_dirs])
    if not FLAGS.verbose and not any(option.startswith(_WORKERS_LOG) for option in FLAGS.pipeline_options):
        FLAGS.pipeline_options = [*FLAGS.pipeline_options, f"{_WORKERS_LOG}ERROR"]
    mixtures = {name: seqio.MixtureRegistry.get(name) for name in seqio.MixtureRegistry.names()}
    names = _chosen(list(seqio.TaskRegistry.names()), mixtures, FLAGS.tasks or [".*"], FLAGS.excluded_tasks or [])
    for name in names:
        _cache_task(command, seqio.TaskRegistry.get(name))


def _chosen(
    known: Sequence[str], mixtures: Mapping[str, Any], wanted: Sequence[str], excluded: Sequence[str]
) -> list[str]:
    """Returns the names that a pattern of ``wanted`` matches as a whole, and none of ``excluded``.

    Raises:
      SettingError: There is no such name.
    """

    def matches(name: str, patterns: Sequence[str]) -> bool:
        return any(re.fullmatch(pattern, name) for pattern in patterns)

    for pattern in (*wanted, *excluded):
        try:
            re.compile(pattern)
        except re.error as error:
            raise SettingError(
                "--tasks", expected="names or regular expressions", found=f"{pattern!r}: {error}", fix="correct it"
            ) from error

    found = [name for name in known if matches(name, wanted) and not matches(name, excluded)]
    if not known:
        raise SettingError("--module_import", expected="a module with tasks", found="none", fix="--module_import=tasks")
    for pattern in wanted:
        if not any(matches(name, [pattern]) for name in known):
            if pattern in mixtures:
                tasks = sorted(task.name for task in mixtures[pattern].tasks)
                fix = " ".join(f"--tasks={task}" for task in tasks)
                raise SettingError(f"--tasks={pattern}", expected="tasks", found="a mixture", fix=fix)
            require_choice("--tasks", pattern, sorted(known), "{setting}={choice} (tasks, not mixtures)")
    if not found:
        raise SettingError("--excluded_tasks", expected="tasks that remain", found="none", fix="exclude fewer tasks")
    return found


def _cache_task(command: Any, task: Any) -> None:
    import seqio

    def say(text: str, end: str = "\n") -> None:
        print(text, end=end, file=sys.stderr, flush=True)

    if not task.supports_caching:
        say(f"{task.name}: skipped, it does not support caching")
        return
    cached = task.cache_dir
    directory = Path(FLAGS.output_cache_dir) / seqio.get_task_dir_from_name(task.name)
    if cached and not FLAGS.ignore_other_caches:
        if not FLAGS.overwrite:
            say(f"{task.name}: cached already, in {cached} (--overwrite replaces it)")
            return
        if Path(cached) != directory:
            raise SettingError(
                f"--tasks={task.name}",
                expected=f"no cache, or one in {directory}",
                found=f"it is cached in {cached}",
                fix="--ignore_other_caches",
            )
    began = time.monotonic()
    if not FLAGS["min_shards"].present:
        counts = [task.num_input_examples(split) for split in task.splits]
        FLAGS["min_shards"].value = fitting_files(None if None in counts else max(counts, default=0))
    _remove_earlier(directory)
    FLAGS.tasks = [re.escape(task.name)]
    say(f"{task.name}: caching {', '.join(task.splits)} … ", end="")
    try:
        command.main([])
    except BaseException:
        say("")
        raise
    if not task.cache_dir or Path(task.cache_dir) != directory:
        say("")
        raise SettingError(
            f"--tasks={task.name}",
            expected=f"a cache in {directory}",
            found="SeqIO wrote none",
            fix="--verbose shows the reason",
        )
    stats = [task.get_cached_stats(split)["examples"] for split in task.splits]
    files = len(list(directory.glob("*-of-*")))
    say(f"{sum(stats)} examples in {files} files, {time.monotonic() - began:.0f} s: {directory}")


def _remove_earlier(directory: Path) -> None:
    """Removes the files of an earlier cache of the task, COMPLETED first, so that a kill leaves no mixture of both."""
    for pattern in ("COMPLETED", "*.tfrecord-*-of-*"):
        for file in directory.glob(pattern):
            file.unlink()


def main() -> None:
    """Entry point of the console script, which replaces SeqIO's."""
    sys.argv[1:] = with_joined_lists(sys.argv[1:])
    flags.DEFINE_bool("verbose", False, "Show the logs of Beam, SeqIO and TensorFlow.")
    FLAGS(sys.argv, known_only=True)
    command_line.import_tensorflow_and_set_logs(FLAGS.verbose)
    with command_line.standard_error_closed(not FLAGS.verbose):
        from seqio.scripts import cache_tasks_main
    FLAGS.unparse_flags()
    FLAGS.set_default("pipeline_options", [RUNNER])
    app.run(lambda _: _run(cache_tasks_main))


def _run(command: Any) -> None:
    if not FLAGS.verbose:
        # TensorFlow warns of functions that SeqIO uses.
        logging.getLogger("tensorflow").setLevel(logging.ERROR)
    try:
        _cache(command)
    except Exception as error:
        for_user = next(filter(None, map(errors.for_user, _causes(error))), None)
        if for_user is None:
            raise
        print(f"seqio_cache_tasks: {FsaError.__str__(for_user)}", file=sys.stderr)
        sys.exit(2)


def _causes(error: BaseException | None) -> list[BaseException]:
    """Returns the error and those that led to it."""
    found: list[BaseException] = []
    while error is not None and error not in found:
        found.append(error)
        error = error.__cause__ or error.__context__
    return found


if __name__ == "__main__":
    main()
