"""What every command of the engine has in common: flags, gin, quiet logs, the compilation cache, and exit statuses.

0 done (also after SIGTERM with a checkpoint saved), 2 an error that the user can fix, also one of another process of
the run, 130 after Ctrl-C (a training saves first). Other exceptions are defects and keep their traceback.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging as python_logging
import os
import platform
import signal
import sys
import textwrap
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import jax
from absl import flags, logging

from fsa_base import devices
from fsa_base.errors import FsaError, SettingError
from t5x import errors
from t5x.configuration import gin_files
from t5x.data import datasets
from t5x.distributed import processes
from t5x.errors import Interrupted

CACHE_VARIABLE = "T5X_COMPILATION_CACHE"
INTERRUPTED = 130
FLAGS = flags.FLAGS
_OURS = ("/t5x/", "/fsa_jax/")
_foreign: set[str] = set()
"""Names of flags that are not the engine's own."""
_GIN = """
Settings are gin's: --gin_file=FILE (may be repeated, a later one wins), and over all files --gin.NAME=VALUE, each one
word. VALUE is a gin literal, so that a string has quotes of its own: --gin.MODEL_DIR="'runs/base'". A file is looked up
here, in --gin_search_paths and in the installed packages. docs/engine.md lists the names.

Several processes: a TPU pod, Slurm (srun) and Open MPI are found by themselves. Elsewhere, every process gets
--coordinator_address=HOST:PORT --process_count=N and its own --process_index, 0 first.
"""


def define_common_flags(search_paths: Sequence[str] = (".",)) -> None:
    """Defines the flags of every command; once, before they are parsed."""
    _foreign.update(FLAGS)
    flags.DEFINE_bool("help", False, "This text.", short_name="h")
    flags.DEFINE_bool("helpfull", False, "This text, and the flags of JAX and absl.")
    flags.DEFINE_multi_string("gin_file", [], "Gin file; may be repeated, a later one wins.")
    flags.DEFINE_multi_string("gin_bindings", [], "'NAME = VALUE'; --gin.NAME=VALUE is the same.")
    flags.DEFINE_list("gin_search_paths", list(search_paths), "Directories in which gin files are looked up.")
    flags.DEFINE_string("tfds_data_dir", None, "Directory of TensorFlow Datasets, for tasks that read from them.")
    flags.DEFINE_list("seqio_additional_cache_dirs", [], "Directories in which SeqIO looks for cached tasks.")
    flags.DEFINE_bool("verbose", False, "Full logs instead of one progress line.")
    flags.DEFINE_bool("multiprocess_gpu", False, "There must be several processes (on any device).")
    flags.DEFINE_string("coordinator_address", None, "HOST:PORT of process 0.")
    flags.DEFINE_integer("process_count", None, "Number of processes; 1 is one that joins no others.")
    flags.DEFINE_integer("process_index", None, "Index of this process, from 0.")
    flags.DEFINE_integer("initialization_timeout", None, "Seconds to wait for the other processes; 300 if not given.")
    flags.DEFINE_string(
        "compilation_cache",
        None,
        f"Where compiled programs are kept between runs; 'off' for nowhere. ${CACHE_VARIABLE}, or a directory in the "
        "user's cache, if not given.",
    )
    own = set(FLAGS)
    jax.config.config_with_absl()
    _foreign.update(set(FLAGS) - own)


def run(
    usage: str,
    functions: Callable[[], Sequence[Callable[..., Any]]],
    arguments: Callable[[], Mapping[str, Any]] = dict,
) -> None:
    """Parses the command line and gin, runs a function as gin has bound it, and exits.

    Gin's run files import ``__main__``, so that the functions are made to be found there whatever program was started.

    Args:
      usage: what ``--help`` says before the flags: what the command does, and an example.
      functions: gives, once flags are parsed, the function to run (``train``, ``evaluate``, ``infer``) and others that
        run files may refer to.
      arguments: gives arguments that flags set over gin's.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)  # see t5x/__init__.py
    try:
        status = _parse_and_run(usage, functions, arguments)
        processes.leave()
    except Interrupted:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        processes.leave()
        status = INTERRUPTED
    except KeyboardInterrupt as error:
        print("stopped", file=sys.stderr)
        processes.end_others(error, "stopped by Ctrl-C")
        sys.stdout.flush()
        os._exit(INTERRUPTED)  # Threads that compile, or wait for another process, would hold up a regular end.
    except Exception as error:
        for_user = errors.for_user(error)
        if for_user is None and not processes.is_joined():
            raise
        status = 1 if for_user is None else 2
        # gin appends where it called from; the error says all that the user needs.
        said = f"{type(error).__name__}: {error}" if for_user is None else FsaError.__str__(for_user)
        processes.end_others(error, said)
        if for_user is None:
            traceback.print_exception(error)
        else:
            logging.debug("cause", exc_info=error)
            print(f"{_module_name()}: {said}", file=sys.stderr)
        if processes.is_joined():
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)  # A regular end would wait for the others.
    sys.stdout.flush()
    sys.stderr.flush()
    sys.exit(status)


def _parse_and_run(
    usage: str, functions: Callable[[], Sequence[Callable[..., Any]]], arguments: Callable[[], Mapping[str, Any]]
) -> int:
    words = gin_files.rewrite_gin_args(sys.argv)
    try:
        positional = FLAGS(words)[1:]
    except flags.Error as error:
        fix = f"python -m {_module_name()} --help lists the flags"
        raise SettingError("command line", expected="known flags", found=str(error).strip(), fix=fix) from error
    if FLAGS.help or FLAGS.helpfull:
        print(_help(usage, FLAGS.helpfull))
        return 0
    if positional:
        raise SettingError(
            "command line",
            expected="flags alone",
            found=" ".join(map(repr, positional)),
            fix="write --gin_file=FILE and --gin.NAME=VALUE, each as one word",
        )
    found = functions()
    for function in found:
        setattr(sys.modules["__main__"], function.__name__, function)
    gin_files.require_files(FLAGS.gin_search_paths, FLAGS.gin_file)
    set_compilation_cache(FLAGS.compilation_cache)
    _import_tensorflow_and_set_logs(FLAGS.verbose)
    dry_run = "dry_run" in FLAGS and FLAGS.dry_run
    if found[0].__name__ != "train":
        # JAX's preemption service takes SIGTERM for itself, so that it would end no command that does not ask it.
        jax.config.update("jax_enable_preemption_service", False)
    if not dry_run:
        processes.initialize(
            FLAGS.multiprocess_gpu,
            FLAGS.coordinator_address,
            FLAGS.process_count,
            FLAGS.process_index,
            FLAGS.initialization_timeout,
        )
    if FLAGS.tfds_data_dir or FLAGS.seqio_additional_cache_dirs:
        import seqio

        seqio.set_tfds_data_dir_override(FLAGS.tfds_data_dir)
        seqio.add_global_cache_dirs(FLAGS.seqio_additional_cache_dirs)
    gin_files.parse_gin_flags(FLAGS.gin_search_paths, FLAGS.gin_file, FLAGS.gin_bindings, strict=True)
    bound = gin_files.bound(found[0])
    if dry_run:
        print(gin_files.get_gin_config_str())
        return 0
    _say_devices()
    bound(**arguments())
    return 0


def _help(usage: str, full: bool) -> str:
    """Returns what ``--help`` says: of all flags with ``full``, else of the engine's own."""
    names = sorted(set(FLAGS) if full else set(FLAGS) - _foreign)
    described = [
        f"  --{name}{'' if isinstance(FLAGS[name], flags.BooleanFlag) else '=VALUE'}\n"
        + textwrap.fill(FLAGS[name].help or "", 100, initial_indent=" " * 6, subsequent_indent=" " * 6)
        for name in names
        if FLAGS[name].name == name  # not a flag's short name
    ]
    return "\n".join([usage.strip(), "", _GIN.strip(), "", "Flags:", *described])


def _say_devices() -> None:
    found = devices.find()
    if jax.process_index() == 0:
        print(f"devices: {found}", file=sys.stderr, flush=True)
    for warning in found.warnings:
        print(f"WARNING: {warning}\n  to fix it: {devices.INSTALL}", file=sys.stderr, flush=True)


def _module_name() -> str:
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    return spec.name if spec is not None else "t5x.train"


def _import_tensorflow_and_set_logs(verbose: bool) -> None:
    """Shows full logs with ``verbose`` or a raised absl ``--verbosity``, else only warnings of the engine itself."""
    if verbose or FLAGS.verbosity > 0:
        logging.set_verbosity(max(logging.INFO, FLAGS.verbosity))
        datasets.tensorflow()
        return
    # Its warnings name internals of SeqIO's pipelines that nobody who trains can change. JAX, once imported, sets 1.
    if os.environ.get("TF_CPP_MIN_LOG_LEVEL", "1") == "1":
        os.environ["TF_CPP_MIN_LOG_LEVEL"] = "2"
    # TensorFlow only feeds data; oneDNN would gain nothing and complains on older processors.
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
    with _standard_error_closed():
        datasets.tensorflow().constant(0)
    logging.use_absl_handler()
    logging.get_absl_handler().addFilter(_is_ours)
    warnings.simplefilter("ignore")
    sys.excepthook = _report
    sys.unraisablehook = _report_unraisable


def _report(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
    """``sys.excepthook`` without what TensorStore's threads hand it for every array of a save that has failed."""
    if not _is_of_failed_save(error):
        sys.__excepthook__(kind, error, traceback)


def _report_unraisable(unraisable: sys.UnraisableHookArgs) -> None:
    """``sys.unraisablehook`` without the same, which TensorStore reports now in one way, now in the other."""
    if not _is_of_failed_save(unraisable.exc_value):
        sys.__unraisablehook__(unraisable)


def _is_of_failed_save(error: BaseException | None) -> bool:
    return type(error) is RuntimeError and str(error) == "Event loop is closed"


@contextlib.contextmanager
def _standard_error_closed() -> Iterator[None]:
    """TensorFlow's C++ part greets on standard error, and on a machine without CUDA complains; no setting stops it."""
    sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def _is_ours(record: python_logging.LogRecord) -> bool:
    """Whether a log record is worth a line: an error of anyone, or what the engine or the project says."""
    if "/gin/" in record.pathname:  # Says where it looked in vain; the error that follows says it better.
        return False
    if record.name == "asyncio" and "exception was never retrieved" in record.getMessage():
        return False  # Of a save that failed, one for every array that was on its way.
    if record.exc_info and not any(part in record.pathname for part in _OURS):
        record.exc_info = None  # Orbax and CLU log with a traceback what they then raise.
    return record.levelno >= python_logging.ERROR or any(part in record.pathname for part in _OURS)


def set_compilation_cache(flag: str | None) -> None:
    """Keeps compiled programs between runs, so that the second start of a run compiles nothing.

    The directory is JAX's own setting if that is set, ``flag`` or ``$T5X_COMPILATION_CACHE`` else, and by default
    ``fsa_jax/xla`` in the user's cache; ``off`` turns it off.
    """
    if flag is None and jax.config.jax_compilation_cache_dir:
        return
    chosen = flag if flag is not None else os.environ.get(CACHE_VARIABLE, "")
    if chosen == "off":
        jax.config.update("jax_enable_compilation_cache", False)
        return
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    directory = Path(chosen) if chosen else home / "fsa_jax" / "xla"
    try:
        # Programs for one CPU may use instructions that another lacks, where a home directory is shared.
        directory = directory / _machine()
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        logging.warning("no compilation cache: %s", error)
        return
    jax.config.update("jax_compilation_cache_dir", str(directory))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", 0)


def _machine() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        described = [line for line in lines if line.startswith(("model", "flags"))]
    except OSError:
        described = [platform.processor()]
    return hashlib.sha256("".join(sorted(set(described))).encode()).hexdigest()[:12]
