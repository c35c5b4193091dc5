"""Prediction with a student from Python."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any, Literal, cast, get_args

import fsa_jax
from fsa_base import checksums, run_config, runs
from fsa_base.errors import SettingError, require_choice, require_number
from fsa_base.untrusted_json import has_lone_surrogate
from fsa_jax.data import own_labels
from fsa_jax.serving.prediction_record import (
    LONGEST_OUTPUT,
    PAIR_TASKS,
    TASKS,
    Output,
    Prediction,
    SpanScorer,
    Task,
    read_prediction,
    without_text,
)
from fsa_jax.tokenizers import Tokenizer
from fsa_jax.tokenizers.chat import ChatTokenizer
from fsa_jax.tokenizers.t5 import T5Tokenizer

Engine = Literal["jax", "ct2"]
Device = Literal["cpu", "cuda", "auto"]
_LONGEST_TOKEN = 512
"""Upper limit on the characters of a token, far above that of any vocabulary, except for runs of blanks."""


CT2_MODEL = "model.bin"
"""File with the weights of an exported CTranslate2 model."""


def is_exported(model: Path) -> bool:
    """Whether a directory has an exported or imported model, not a run's checkpoints."""
    return (model / CT2_MODEL).is_file() or (model / "config.json").is_file()


def located(model: Path) -> tuple[Path, dict[str, Any]]:
    """Finds the files of a model: a local path, or else a repository on the Hub (:func:`hub.fetch`).

    Args:
      model: local path, ``MODEL_DIR@best`` or ``MODEL_DIR@newest``, or the name of a repository. A local path wins.

    Returns:
      The directory, and what identifies the model in the settings of a prediction. It is empty for a local path; for a
      repository it has the commit instead of the place in the cache.

    Raises:
      FsaError: there is neither such a path nor such a repository, or the run has no such checkpoint.
    """
    if is_exported(model):
        return model, {}
    is_local = model.exists() or Path(str(model).rpartition("@")[0] or model).exists()
    # The names of checkpoints are never sent to the Hub, where a misspelled path would be a repository.
    is_local |= str(model).endswith(("@best", "@newest")) and not str(model).startswith("hf:")
    if not is_local:
        from fsa_jax.weights import hub

        if hub.is_name(str(model)):
            source = hub.fetch(str(model))
            return source.directory, {"model": source.address, "model content": source.revision}
    return runs.resolve(model), {}


def _task_of(model: Path) -> Task:
    """The task for which the run of a checkpoint was trained; atsa if it is not known, as for an export."""
    if is_exported(model):
        return "atsa"
    file = next(
        (place / run_config.CONFIG for place in (model, model.parent) if (place / run_config.CONFIG).exists()), None
    )
    try:
        trained = run_config.read_config(file).macro("MIXTURE_OR_TASK_NAME") if file else None
    except SettingError:  # The checkpoint itself may be whole.
        return "atsa"
    name = str(trained.name if isinstance(trained, run_config.Reference) else trained).replace("chat_", "")
    for task in PAIR_TASKS:
        if name.startswith((f"fsa_{task}_", f"{own_labels.TASK}_{task}")):
            return cast(Task, task)
    if name == own_labels.TASK:
        raise SettingError(
            "task",
            expected=f"{' or '.join(PAIR_TASKS)}: the form of the labels of {own_labels.LABELS_VARIABLE}",
            found=f"none, and the run was trained on {name}, which does not say it",
            fix="--task atsa, or the form that fsa labels shows",
        )
    if name.startswith(("fsa_rewriting", "fsa_corpus_rewriting")):
        return "rewriting"
    is_text = name.startswith(("fsa_analysis", "fsa_distill", "fsa_corpus")) or name.endswith("corpus_task")
    return "analysis" if is_text else "atsa"


class Predictor:
    """A student that predicts for one task. Outputs do not depend on the batch size or on the other inputs of a batch.

    Nothing is printed, except on standard error if files are downloaded or a checkpoint has no checksums.

    Args:
      model: for ``jax`` a checkpoint, the MODEL_DIR of a run, MODEL_DIR@best or MODEL_DIR@newest, an output directory
        of ``fsa import-hf`` or a Hugging Face directory; for ``ct2`` an output directory of ``fsa export-ct2``. Or a
        repository on the Hub with one of the last two: ``OWNER/NAME`` or ``OWNER/NAME@REVISION``.
      task: kind of the outputs: ``atsa``, ``acsa``, ``tasd``, ``asqp``, ``analysis`` or ``rewriting``; by default
        the one for which a run was trained, ``atsa`` for exports and imports.
      engine: ``jax`` or ``ct2``; by default the one that fits ``model``.
      beams: number of beams; 1 for greedy decoding.
      max_input_length: longest input in tokens; longer reviews are cut, and their predictions have ``cut`` set.
      max_output_length: longest output in tokens; by default 100 for atsa and acsa, 160 for
        tasd, 200 for asqp, 400 for teacher text.
      base: for a trained decoder-only student, the output directory of ``fsa import-hf`` from which training started.
      vocabulary: SentencePiece model of a T5 student, if it is not next to the weights.
      instruction: text before the review in the user's turn, for a decoder-only student that was trained with one; an
        export for CTranslate2 contains it.
      threads: number of batches that CTranslate2 decodes in parallel, 0 for one per core.
      device: device of CTranslate2: ``cpu``, ``cuda`` or ``auto``. JAX uses the device that it finds.

    Attributes:
      task: kind of the outputs.
      engine: the engine that decodes.
      max_input_length: longest input in tokens.
      tokens: tokenizer of the student.
      identity: all settings that determine the predictions, with resolved defaults, as JSON values.

    Raises:
      FsaError: the model cannot be loaded, or a setting is invalid.

    Example:
      ::

        predictor = Predictor("runs/finetuned", task="atsa")
        (prediction,) = predictor.predict(["The pizza was great but the waiter was rude."])
        for aspect in prediction.aspects:
            print(aspect.target, aspect.polarity, aspect.log_probability)
    """

    def __init__(
        self,
        model: str | Path,
        *,
        task: Task | None = None,
        engine: Engine | None = None,
        beams: int = 1,
        max_input_length: int = 512,
        max_output_length: int | None = None,
        base: str | Path | None = None,
        vocabulary: str | Path | None = None,
        instruction: str = "",
        threads: int = 0,
        device: Device = "cpu",
    ) -> None:
        if task is not None:
            require_choice("task", task, TASKS, "--task {choice}")
        if engine is not None:
            require_choice("engine", engine, get_args(Engine), "--engine {choice}")
        require_choice("device", device, get_args(Device), "--device {choice}")
        require_number("beams", beams, 1, whole=True)
        require_number("max_input_length", max_input_length, 2, whole=True)
        require_number("max_output_length", max_output_length, 1, whole=True)
        require_number("threads", threads, 0, whole=True)
        path, on_hub = located(Path(model))
        self.task: Task = task or _task_of(path)
        length = LONGEST_OUTPUT[self.task] if max_output_length is None else max_output_length
        self.engine: Engine = engine or ("ct2" if (path / CT2_MODEL).is_file() else "jax")
        self.max_input_length = max_input_length
        if self.engine == "ct2":
            from fsa_jax.serving.ct2 import Ct2Generator, load_ct2_student

            student = load_ct2_student(path)
            if instruction not in ("", exported := student.description["instruction"]):
                raise SettingError(
                    "instruction", expected=f"that of the export, {exported!r}", found=repr(instruction), fix="omit it"
                )
            files, library = None, "ctranslate2"
            generate = Ct2Generator(
                student,
                max_length=length,
                beams=beams,
                threads=threads,
                device=device,
                log_probs=self.task in PAIR_TASKS,
            )
            self._stream: Callable[[Sequence[Sequence[int]], int], Iterator[list[tuple[int, Output]]]] = generate.stream
        else:
            from fsa_jax.serving.jax_decoding import Decoding
            from fsa_jax.serving.student import load_student

            student = load_student(
                path,
                base=Path(base) if base else None,
                vocabulary=Path(vocabulary) if vocabulary else None,
                instruction=instruction,
            )
            files, library = student.hf_files, "jax"
            self._stream = student.generator(Decoding(length, beams)).stream
        self.tokens: Tokenizer = student.tokens
        self.identity: dict[str, Any] = {
            "model": str(student.path.resolve()),
            "model content": checksums.digest(student.path),
            "model files": checksums.digest(files) if files else None,
            "vocabulary": _vocabulary_digest(student.tokens),
            "task": self.task,
            "engine": self.engine,
            "device": device if self.engine == "ct2" else _jax_device(),
            "beams": beams,
            "max_input_length": max_input_length,
            "max_output_length": length,
            "instruction": instruction,
            "fsa_jax": fsa_jax.__version__,
            library: metadata.version(library),
            **on_hub,
        }

    def predict(
        self, texts: Sequence[str], *, ids: Sequence[str] | None = None, batch_size: int = 32
    ) -> list[Prediction]:
        """The predictions for ``texts``, in order. That of a blank text has an ``error`` and no aspects.

        Args:
          texts: reviews or sentences.
          ids: ids of the predictions, one for each text; by default "0", "1" …
          batch_size: number of reviews that are decoded together.

        Returns:
          One prediction for each text.

        Raises:
          SettingError: ``texts`` or ``ids`` is no list of strings that can be written in UTF-8, there are more or fewer
            ids, or ``batch_size`` is less than 1.
        """
        _require_texts("texts", texts)
        names = [str(i) for i in range(len(texts))] if ids is None else ids
        _require_texts("ids", names)
        if len(names) != len(texts):
            raise SettingError("ids", expected=f"{len(texts)}, one per text", found=str(len(names)), fix="omit ids")
        found: dict[int, Prediction] = {}
        for batch in self.batches(texts, names, batch_size):
            found.update(batch)
        return [found[i] for i in range(len(texts))]

    def batches(
        self, texts: Sequence[str], ids: Sequence[str], batch_size: int
    ) -> Iterator[list[tuple[int, Prediction]]]:
        """Batches of predictions with their indices in ``texts``.

        Blank texts come first; predictions of short ones are started before those of long ones, to reduce padding.

        Raises:
          SettingError: ``batch_size`` is less than 1.
        """
        require_number("batch_size", batch_size, 1, whole=True)
        if blank := [i for i, text in enumerate(texts) if not text.strip()]:
            yield [(i, without_text(ids[i], texts[i])) for i in blank]
        encoded = {i: self._encode(text) for i, text in enumerate(texts) if text.strip()}
        order = sorted(encoded, key=lambda i: (len(encoded[i][0]), encoded[i][0]))
        for outputs in self._stream([encoded[i][0] for i in order], batch_size):
            ended = ((order[place], output) for place, output in outputs)
            yield [(i, self._read(ids[i], texts[i], output, encoded[i][1])) for i, output in ended]

    def _read(self, id: str, text: str, output: Output, cut: bool) -> Prediction:
        generated = self.tokens.decode(output.ids)
        scorer = SpanScorer(output, self.tokens.decode, generated) if self.task in PAIR_TASKS and generated else None
        return read_prediction(self.task, id, text, generated, output.score, cut, scorer)

    def _encode(self, text: str) -> tuple[list[int], bool]:
        # The text is cut first, so that a text of 50 MB is not tokenized completely for its first 512 tokens.
        most = self.max_input_length * _LONGEST_TOKEN
        ids, cut = self.tokens.encode_input(text[:most], self.max_input_length)
        return ids, cut or len(text) > most


def _require_texts(name: str, values: object) -> None:
    """Checks a list of texts. Half a surrogate pair is refused, as in files: it cannot be written."""
    if isinstance(values, str) or not isinstance(values, Sequence):
        found, fix = ("one text", f"[{name}]") if isinstance(values, str) else (type(values).__name__, f"list({name})")
        raise SettingError(name, expected="a list of texts", found=found, fix=fix)
    for place, value in enumerate(values):
        if not isinstance(value, str):
            found = repr(value)[:80]
            raise SettingError(f"{name}[{place}]", expected="a text", found=found, fix="convert it, or leave it out")
        if has_lone_surrogate(value):
            raise SettingError(
                f"{name}[{place}]",
                expected="a text that can be written in UTF-8",
                found="half a surrogate pair",
                fix='text.encode(errors="replace").decode()',
            )


def _vocabulary_digest(tokens: Tokenizer) -> str:
    if isinstance(tokens, T5Tokenizer):
        return checksums.file_digest(tokens.model)
    assert isinstance(tokens, ChatTokenizer)
    return checksums.digest(tokens.directory)


def _jax_device() -> str:
    import jax

    return jax.default_backend()
