"""What all commands of the engine share: flags, gin, logging, the compilation cache, and exit statuses.

Exit status 0: completed (also after SIGTERM with a saved checkpoint). 2: an error that the user can fix, also in
another process of the run. 130: Ctrl-C (a training saves first). Other exceptions are bugs and keep their traceback.
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
"""Names of flags that other packages define."""
_GIN = """
Settings are set with gin: --gin_file=FILE (may be repeated; later files override earlier ones), and --gin.NAME=VALUE,
which overrides all files. VALUE is a gin literal, so a string needs its own quotes: --gin.MODEL_DIR="'runs/base'". A
file is searched in the working directory, in --gin_search_paths and in the installed packages. docs/engine.md lists
the names.

Several processes: a TPU pod, Slurm (srun) and Open MPI are detected automatically. Elsewhere, start every process with
--coordinator_address=HOST:PORT --process_count=N and its own --process_index, 0 first.
"""


def define_common_flags(search_paths: Sequence[str] = (".",)) -> None:
    """Defines the flags that all commands have. Call this once, before the flags are parsed."""
    _foreign.update(FLAGS)
    flags.DEFINE_bool("help", False, "This text.", short_name="h")
    flags.DEFINE_bool("helpfull", False, "This text, and the flags of JAX and absl.")
    flags.DEFINE_multi_string("gin_file", [], "Gin file; may be repeated, later files override earlier ones.")
    flags.DEFINE_multi_string("gin_bindings", [], "'NAME = VALUE'; --gin.NAME=VALUE is the same.")
    flags.DEFINE_list("gin_search_paths", list(search_paths), "Directories in which gin files are looked up.")
    flags.DEFINE_string("tfds_data_dir", None, "Directory of TensorFlow Datasets, for tasks that read from them.")
    flags.DEFINE_list("seqio_additional_cache_dirs", [], "Directories in which SeqIO looks for cached tasks.")
    flags.DEFINE_bool("dry_run", False, "Parse and print the configuration, and stop; writes nothing.")
    flags.DEFINE_bool("verbose", False, "Full logs instead of one progress line.")
    flags.DEFINE_bool("multiprocess_gpu", False, "Require several processes (on any device).")
    flags.DEFINE_string("coordinator_address", None, "HOST:PORT of process 0.")
    flags.DEFINE_integer("process_count", None, "Number of processes; 1 for a single process.")
    flags.DEFINE_integer("process_index", None, "Index of this process, from 0.")
    flags.DEFINE_integer("initialization_timeout", None, "Seconds to wait for the other processes; 300 if not given.")
    flags.DEFINE_string(
        "compilation_cache",
        None,
        f"Directory of compiled programs, which later runs reuse; 'off' for none. By default ${CACHE_VARIABLE}, or a "
        "directory in the user's cache.",
    )
    own = set(FLAGS)
    jax.config.config_with_absl()
    _foreign.update(set(FLAGS) - own)


def run(
    usage: str,
    functions: Callable[[], Sequence[Callable[..., Any]]],
    arguments: Callable[[], Mapping[str, Any]] = dict,
) -> None:
    """Parses the command line and gin files, calls a function with gin's bindings, and exits.

    Gin's run files import ``__main__``, so the functions are made attributes of that module.

    Args:
      usage: Text that ``--help`` prints before the flags: what the command does, and an example.
      functions: Called after the flags are parsed. Returns the function to run (``train``, ``evaluate``, ``infer``),
        and others that run files may refer to.
      arguments: Returns arguments from flags, which override gin's.
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
        os._exit(INTERRUPTED)  # A regular exit would wait for threads that compile or wait for another process.
    except Exception as error:
        for_user = errors.for_user(error)
        if for_user is None and not processes.is_joined():
            raise
        status = 1 if for_user is None else 2
        # gin appends to the message where it called the function; users do not need that.
        message = f"{type(error).__name__}: {error}" if for_user is None else FsaError.__str__(for_user)
        processes.end_others(error, message)
        if for_user is None:
            traceback.print_exception(error)
        else:
            logging.debug("cause", exc_info=error)
            print(f"{_module_name()}: {message}", file=sys.stderr)
        if processes.is_joined():
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)  # A regular exit would wait for the other processes.
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
    import_tensorflow_and_set_logs(FLAGS.verbose)
    if found[0].__name__ != "train":
        # JAX's preemption service handles SIGTERM, so commands that do not query it would never end by that signal.
        jax.config.update("jax_enable_preemption_service", False)
    if not FLAGS.dry_run:
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
    read = gin_files.parse_gin_flags(FLAGS.gin_search_paths, FLAGS.gin_file, FLAGS.gin_bindings, strict=True)
    bound = gin_files.bound(found[0])
    if FLAGS.dry_run or jax.process_index() == 0:
        for line in gin_files.origins(read, FLAGS.gin_search_paths):
            print(line, file=sys.stderr, flush=True)
    if FLAGS.dry_run:
        try:
            print(gin_files.get_gin_config_str(), flush=True)
        except BrokenPipeError:
            # The reader of the output (`| head`) has ended. Without this, Python would print another error at its exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    _say_devices()
    bound(**arguments())
    return 0


def _help(usage: str, full: bool) -> str:
    """Returns the text for ``--help``, with the flags of the engine, or with all flags if ``full``."""
    names = sorted(set(FLAGS) if full else set(FLAGS) - _foreign)
    described = [
        f"  --{name}{'' if isinstance(FLAGS[name], flags.BooleanFlag) else '=VALUE'}\n"
        + textwrap.fill(FLAGS[name].help or "", 100, initial_indent=" " * 6, subsequent_indent=" " * 6)
        for name in names
        if FLAGS[name].name == name  # skip short names of flags
    ]
    return "\n".join([usage.strip(), "", _GIN.strip(), "", "Flags:", *described])


def _say_devices() -> None:
    found = devices.find()
    if jax.process_index() == 0:
        print(f"devices: {found}", file=sys.stderr, flush=True)
    for warning in found.warnings:
        print(f"WARNING: {warning}\n  to fix it: {devices.install()}", file=sys.stderr, flush=True)


def _module_name() -> str:
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    return spec.name if spec is not None else "t5x.train"


def import_tensorflow_and_set_logs(verbose: bool) -> None:
    """Shows all logs with ``verbose`` or a higher absl ``--verbosity``, otherwise only warnings of the engine."""
    if verbose or FLAGS.verbosity > 0:
        logging.set_verbosity(max(logging.INFO, FLAGS.verbosity))
        datasets.tensorflow()
        return
    # TensorFlow's warnings concern internals of SeqIO's pipelines, which users cannot change. Importing JAX sets 1.
    if os.environ.get("TF_CPP_MIN_LOG_LEVEL", "1") == "1":
        os.environ["TF_CPP_MIN_LOG_LEVEL"] = "2"
    # TensorFlow only reads data, so oneDNN is of no use, and it prints warnings on older processors.
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
    with standard_error_closed():
        datasets.tensorflow().constant(0)
    logging.use_absl_handler()
    logging.get_absl_handler().addFilter(_is_ours)
    warnings.simplefilter("ignore")
    sys.excepthook = _report
    sys.unraisablehook = _report_unraisable


def _report(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
    """A ``sys.excepthook`` that ignores the exceptions of TensorStore's threads for every array of a failed save."""
    if not _is_of_failed_save(error):
        sys.__excepthook__(kind, error, traceback)


def _report_unraisable(unraisable: sys.UnraisableHookArgs) -> None:
    """A ``sys.unraisablehook`` that ignores the same exceptions; TensorStore uses either of the two hooks."""
    if not _is_of_failed_save(unraisable.exc_value):
        sys.__unraisablehook__(unraisable)


def _is_of_failed_save(error: BaseException | None) -> bool:
    return type(error) is RuntimeError and str(error) == "Event loop is closed"


@contextlib.contextmanager
def standard_error_closed(closed: bool = True) -> Iterator[None]:
    """Redirects standard error to nowhere: importing TensorFlow prints messages there which no setting turns off.

    Args:
      closed: Whether to do so.
    """
    if not closed:
        yield
        return
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
    """Returns whether to show a log record: errors, and all records of the engine and of the project."""
    if "/gin/" in record.pathname:  # Lists places without the file; the error that follows is clearer.
        return False
    if "/async_checkpointer." in record.pathname:  # The error of a failed save follows.
        return False
    if record.name == "asyncio" and "exception was never retrieved" in record.getMessage():
        return False  # One message for every array of a failed save.
    if record.exc_info and not any(part in record.pathname for part in _OURS):
        record.exc_info = None  # Orbax and CLU log a traceback and then raise the same exception.
    return record.levelno >= python_logging.ERROR or any(part in record.pathname for part in _OURS)


def set_compilation_cache(flag: str | None) -> None:
    """Keeps compiled programs between runs, so that the second start of a run need not compile.

    The directory is JAX's own setting if it is set, otherwise ``flag`` or ``$T5X_COMPILATION_CACHE``, and by default
    ``fsa_jax/xla`` in the user's cache. ``off`` disables the cache.
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
        # Home directories may be shared by machines whose CPUs have different instructions.
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
