"""The course of a benchmark: search of learning rates, fine-tuning, predictions, scores. Each can be resumed."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from rich.console import Console
from tqdm import tqdm

from fsa_base import disk
from fsa_base.disk import replacing
from fsa_base.errors import SettingError, require_number
from fsa_jax.benchmark import tables
from fsa_jax.benchmark.jobs import RESULT, Dataset, Job
from fsa_jax.benchmark.overlap import LEAST, SHINGLE, Overlap, files_of, find_overlaps, reviews_of
from fsa_jax.benchmark.processes import Command, CommandFailed, Pool
from fsa_jax.benchmark.settings import BenchmarkSettings, record_settings
from fsa_jax.benchmark.students import Student
from fsa_jax.benchmark.tables import Line
from fsa_jax.evaluation.prediction_runs import PREDICTIONS_FILE, RUN_FILE, ScoredRun, read_scored_run
from fsa_jax.training.engine_command import refuse_bound_names

RESULTS = "results.json"
GIN_OPTIONS = {
    "MODEL_DIR": "--output",
    "MIXTURE_OR_TASK_NAME": "--task",
    "INITIAL_CHECKPOINT_PATH": "--student",
    "TRAIN_STEPS": "--epochs",
    "EVAL_PERIOD": "--epochs",
    "BATCH_SIZE": "--batch-size",
    "LEARNING_RATE": "--learning-rate",
    "RANDOM_SEED": "--seed",
    "TRAIN_SHARE": "--train-share",
    "SHARE_SEED": "--share-seed",
    "VOCABULARY_ROWS": "--vocabulary",
}
"""The options for gin names that may not be bound by hand."""
_OVERLAPS = "overlaps.json"
_GROUPS = "grouping.json"
_SIZES = (1, 2, 4, 8, 16)


class Benchmark:
    """One benchmark in one folder.

    Args:
      output: the folder.
      students: the students.
      datasets: the tasks.
      settings: what is trained.
      flags: flags that are passed on to the engine.
      corpus: reviews in which test sentences are searched; None to search none.
      workers: trainings that run in parallel; None for one per core (at most four) on a CPU, and one elsewhere.
      keep_students: whether to keep the weights of the fine-tuned students.
      console: console for messages.
    """

    def __init__(
        self,
        output: Path,
        students: Sequence[Student],
        datasets: Sequence[Dataset],
        settings: BenchmarkSettings,
        *,
        flags: Sequence[str] = (),
        corpus: Path | None = None,
        workers: int | None = None,
        keep_students: bool = False,
        console: Console,
    ) -> None:
        require_number("--workers", workers, 1, whole=True)
        refuse_bound_names(flags, GIN_OPTIONS)
        self._output = output.absolute()
        self._students, self._datasets, self._settings = list(students), list(datasets), settings.check()
        self._flags, self._corpus, self._keep = list(flags), corpus, keep_students
        self._console, self._workers = console, workers
        self._errors: dict[Path, str] = {}
        self._device = ""

    def run(self) -> list[Line]:
        """Trains, predicts and scores what has not ended; shows the table.

        Raises:
          FsaError: an error that the user can fix, before anything is trained.
        """
        with _claimed(self._output) as held:
            identities = {student.name: student.identity() for student in self._students}
            tasks = {dataset.name: dataset.identity() for dataset in self._datasets}
            record_settings(self._output, self._settings, identities, self._flags, tasks)
            self._device = _device()
            overlaps = self._overlaps()
            groups = self._groups()
            pool = Pool(self._workers or (None if self._device == "cpu" else 1), held)
            rates = self._settings.learning_rates
            cells = [
                (student, dataset, share)
                for dataset in self._datasets
                for share in self._settings.train_shares
                for student in self._students
            ]
            search: list[Job] = []
            if len(rates) > 1:
                first = self._settings.seeds[:1]
                search = [self._job(*cell, rate, first) for cell in cells for rate in rates]
                self._train("search of the learning rates", search, pool)
            finals = []
            for cell in cells:
                rate = self._chosen_rate(*cell)
                if rate is not None:
                    finals.append(self._job(*cell, rate, self._settings.seeds, groups[cell[0].name]))
            self._retire(finals)
            self._train("fine-tuning", finals, pool)
            chosen = {job.directory for job in finals}
            others = [job for job in search if job.directory not in chosen]
            self._delete_weights(job.folder(seed) for job in others for seed in job.seeds)
            self._predict(finals, pool)
            self._record(finals)
            lines = self._lines(cells, finals, overlaps)
            with replacing(self._output / RESULTS) as partial:
                partial.write_text(json.dumps([line.model_dump(mode="json") for line in lines], indent=1))
        self._console.print(tables.shown(lines))
        self._explain(lines, overlaps)
        return lines

    def plan(self) -> None:
        """Prints what would be trained, with its steps, the memory of a step, and an estimate of the time.

        A few steps of every student are run to measure them.
        """
        rates = self._settings.learning_rates
        seeds = len(self._settings.seeds)
        total = 0.0
        for student in self._students:
            job = self._job(student, self._datasets[0], 1.0, self._default_rate(student), self._settings.seeds)
            (found,) = self._measured(job, (1,))
            steps = 0
            for dataset in self._datasets:
                for share in self._settings.train_shares:
                    one = self._job(student, dataset, share, job.rate, job.seeds).steps
                    steps += one * (seeds + max(0, len(rates) - 1))
            hours = steps * found["seconds"] / 3600
            total += hours
            memory = f", {found['bytes'] / 2**30:.2f} GiB a step" if "bytes" in found else ""
            self._say(
                f"{student.name}: {len(self._datasets)} tasks, {seeds} seeds, {steps:,} steps of "
                f"{found['seconds']:.3g} s{memory}: {hours:.2f} hours of training"
            )
        self._say(
            f"together {total:.2f} hours of training on one device with one training at a time; validation and "
            "prediction come on top, about as much for small students on a CPU"
        )

    def _say(self, text: str) -> None:
        self._console.print(text, highlight=False, markup=False)

    def _job(
        self, student: Student, dataset: Dataset, share: float, rate: float, seeds: Sequence[int], together: int = 1
    ) -> Job:
        return Job(self._output, student, dataset, share, rate, tuple(seeds), self._settings, together)

    def _default_rate(self, student: Student) -> float:
        rates = self._settings.learning_rates
        return rates[0] if rates else student.learning_rate()

    def _chosen_rate(self, student: Student, dataset: Dataset, share: float) -> float | None:
        """The rate with the best validation F1 of the first seed, the smaller of equal ones; None if one failed."""
        rates = self._settings.learning_rates
        if len(rates) < 2:
            return self._default_rate(student)
        seed = self._settings.seeds[0]
        jobs = [self._job(student, dataset, share, rate, (seed,)) for rate in rates]
        if not all(job.is_trained for job in jobs):
            return None  # The rate that could not be tried may be the best one.
        return min(jobs, key=lambda job: (-job.validation_f1(seed), job.rate)).rate

    def _retire(self, jobs: Sequence[Job]) -> None:
        """Keeps one learning rate in each cell.

        If another rate was chosen before, its runs are not the final ones any more. If the one chosen now has neither
        weights nor predictions, it is trained again.
        """
        for job in jobs:
            for other in job.directory.parent.glob(f"lr-*/seed-*/{PREDICTIONS_FILE}"):
                if other.parents[1] != job.directory:
                    other.rename(other.with_name(f"not-chosen-{PREDICTIONS_FILE}"))
                    self._say(f"   {job}: the predictions in {other.parent} are not the final ones any more")
            for folder in map(job.folder, job.seeds):
                final = folder / PREDICTIONS_FILE
                retired = folder / f"not-chosen-{PREDICTIONS_FILE}"
                if retired.is_file():
                    retired.rename(final)
                if job.dataset.test and not final.is_file() and not [*folder.glob("checkpoint_*")]:
                    for file in (RESULT, RUN_FILE):
                        (folder / file).unlink(missing_ok=True)

    def _train(self, title: str, jobs: Sequence[Job], pool: Pool) -> None:
        todo = [job for job in jobs if not job.is_trained and not self._is_recorded(job)]
        if not todo:
            self._say(f"✓ {title}: done before")
            return
        self._say(f"▶ {title}: {len(todo)} trainings, {min(pool.workers, len(todo))} at a time, such as")
        commands = [job.command(self._flags) for job in todo]
        self._say(f"   {commands[0]}")
        self._pooled(pool, commands, todo, sum(job.steps * len(job.seeds) for job in todo), "steps")

    def _pooled(self, pool: Pool, commands: Sequence[Command], jobs: Sequence[Job], total: int, unit: str) -> None:
        def failed(index: int, error: CommandFailed) -> None:
            self._errors[jobs[index].directory] = str(error)
            bar.write(f"FAILED: {jobs[index]}: {_last_line(str(error))}", file=sys.stderr)

        ended: set[int] = set()

        def watch() -> None:
            bar.update((sum(job.steps_done() for job in jobs) if unit == "steps" else len(ended)) - bar.n)

        with tqdm(total=total, unit=f" {unit}", mininterval=1.0) as bar:
            pool.run(commands, watch, lambda index, seconds: ended.add(index), failed)
            watch()

    def _predict(self, jobs: Sequence[Job], pool: Pool) -> None:
        todo: list[tuple[Job, list[Path]]] = []
        for job in jobs:
            folders = [job.folder(seed) for seed in job.seeds if job.has_ended(seed)]
            missing = [folder for folder in folders if not (folder / PREDICTIONS_FILE).is_file()]
            if job.dataset.test and missing:
                todo.append((job, missing))
        if not todo:
            return
        self._say(f"▶ predictions for the test sentences: {sum(len(missing) for _, missing in todo)} students")
        commands = []
        for job, missing in todo:
            spec = {
                "root": str(job.dataset.root.absolute()),
                "dataset": job.dataset.name,
                "folders": [str(folder) for folder in missing],
                "vocabulary": str(job.student.vocabulary) if job.student.vocabulary else None,
                "base": str(job.student.base) if job.student.base else None,
                "batch_size": 64,
            }
            file = job.directory / "predict.json"
            file.write_text(json.dumps(spec))
            words = (sys.executable, "-m", "fsa_jax.benchmark.predict_runs", str(file))
            commands.append(Command(words, job.environment(), Path.cwd(), job.directory / "predict.log"))
        self._pooled(pool, commands, [job for job, _ in todo], len(todo), "trainings")

    def _record(self, jobs: Sequence[Job]) -> None:
        """Writes ``run.json`` of every run, and deletes the weights of those that have their predictions."""
        for job in jobs:
            for seed in job.seeds:
                folder = job.folder(seed)
                if tables.ended(folder):
                    continue
                scored = not job.dataset.test or (folder / PREDICTIONS_FILE).is_file()
                error = None if job.has_ended(seed) and scored else self._errors.get(job.directory, "was not trained")
                job.write_record(job.record(seed, self._device, error))
            self._delete_weights(job.folder(seed) for seed in job.seeds if tables.ended(job.folder(seed)))

    def _delete_weights(self, folders: Iterable[Path]) -> None:
        if not self._keep:
            for folder in folders:
                for checkpoint in folder.glob("checkpoint_*"):
                    shutil.rmtree(checkpoint)

    def _is_recorded(self, job: Job) -> bool:
        return all(tables.ended(job.folder(seed)) for seed in job.seeds)

    def _lines(
        self, cells: Sequence[tuple[Student, Dataset, float]], jobs: Sequence[Job], overlaps: Overlap | None
    ) -> list[Line]:
        by_cell = {(job.student.name, job.dataset.name, job.share): job for job in jobs}
        lines = []
        for student, dataset, share in cells:
            job = by_cell.get((student.name, dataset.name, share))
            lines.append(self._line(job, student, dataset, share, overlaps))
        return lines

    def _line(
        self, job: Job | None, student: Student, dataset: Dataset, share: float, overlaps: Overlap | None
    ) -> Line:
        base = {"student": student.name, "task": dataset.name, "share": share}
        if job is None:
            error = "a learning rate of the search could not be trained (its log.txt says why), so none was chosen"
            errors = dict.fromkeys(self._settings.seeds, error)
            return Line(
                **base, learning_rate=None, seeds=(), errors=errors, validation=(), scores={}, without_overlap={}
            )
        ended = [seed for seed in job.seeds if tables.ended(job.folder(seed))]
        errors = {
            seed: job.record(seed, "", self._errors.get(job.directory, "")).error or "not trained"
            for seed in job.seeds
            if seed not in ended
        }
        runs: list[ScoredRun] = [read_scored_run(job.folder(seed)) for seed in ended] if dataset.test else []
        return Line(
            **base,
            learning_rate=job.rate,
            seeds=tuple(ended),
            errors=errors,
            validation=tuple(job.validation_f1(seed) for seed in ended),
            scores=tables.score_runs(runs),
            without_overlap=tables.score_runs(runs, overlaps.found) if overlaps and overlaps.found and runs else {},
        )

    def _overlaps(self) -> Overlap | None:
        """Searches the corpus for test sentences, once for each corpus and set of sentences."""
        if self._corpus is None:
            return None
        sentences = [sentence.text for dataset in self._datasets for sentence in dataset.test]
        state = {
            "reviews": [[str(file), file.stat().st_size, file.stat().st_mtime_ns] for file in files_of(self._corpus)],
            "tasks": {dataset.name: dataset.identity() for dataset in self._datasets},
            "rule": [SHINGLE, LEAST],
        }
        file = self._output / _OVERLAPS
        if file.is_file() and (known := json.loads(file.read_text())).get("of") == state:
            return Overlap.model_validate(known["overlap"])
        self._say("▶ search for test sentences in the corpus")
        found = find_overlaps(sentences, tqdm(reviews_of(self._corpus), unit=" reviews"))
        content = {"of": state, "overlap": {**found.model_dump(mode="json"), "found": sorted(found.found)}}
        with replacing(file) as partial:
            partial.write_text(json.dumps(content, indent=1))
        return found

    def _groups(self) -> dict[str, int]:
        """How many seeds of each student are trained together: as given, as before, or the fastest that fits."""
        file = self._output / _GROUPS
        known: dict[str, int] = json.loads(file.read_text()) if file.is_file() else {}
        groups = {}
        for student in self._students:
            if self._settings.together is not None:
                groups[student.name] = self._settings.together
            elif student.name in known:
                groups[student.name] = known[student.name]
            elif self._device == "cpu" or len(self._settings.seeds) == 1:
                groups[student.name] = 1
            else:
                known[student.name] = groups[student.name] = self._fastest(student)
            self._say(f"{student.name}: {groups[student.name]} seed(s) together")
        with replacing(file) as partial:
            partial.write_text(json.dumps(known))
        return groups

    def _fastest(self, student: Student) -> int:
        job = self._job(student, self._datasets[0], 1.0, self._default_rate(student), self._settings.seeds)
        sizes = tuple(size for size in _SIZES if size <= len(self._settings.seeds))
        found = self._measured(job, sizes)
        for entry in found:
            self._say(f"   {entry['together']} together: {entry['together'] / entry['seconds']:.3g} steps/s")
        return max(found, key=lambda entry: entry["together"] / entry["seconds"])["together"]

    def _measured(self, job: Job, sizes: Sequence[int]) -> list[dict]:
        with TemporaryDirectory() as temporary:
            Pool(1).run([job.command(self._flags, sizes, Path(temporary))])
            return json.loads(Path(temporary, "measured.json").read_text())

    def _explain(self, lines: Sequence[Line], overlaps: Overlap | None) -> None:
        self._say("F1 in percent by the released rule: mean ± standard deviation over seeds.")
        if overlaps:
            self._say(
                f"{len(overlaps.found)} of {overlaps.sentences} test sentences are in one of {overlaps.reviews:,} "
                f"reviews of the corpus ({overlaps.too_short} are too short to search)."
            )
        for line in lines:
            for seed, error in line.errors.items():
                self._say(f"FAILED: {line.student} on {line.task}, seed {seed}: {_last_line(error)}")


def _last_line(text: str) -> str:
    return next(reversed([line for line in text.splitlines() if line.strip()]), text)


def _device() -> str:
    """The platform that JAX finds, in a process of its own, because JAX reserves the memory of a GPU."""
    found = subprocess.run(
        [sys.executable, "-c", "import jax; print(jax.default_backend())"], capture_output=True, text=True, check=True
    )
    return found.stdout.split()[-1]


@contextmanager
def _claimed(output: Path) -> Iterator[int]:
    """Locks the output folder while the context lasts; yields the descriptor, which the trainings inherit.

    Raises:
      SettingError: another benchmark uses the folder.
    """
    output.mkdir(parents=True, exist_ok=True)
    with (output / ".lock").open("a+") as handle:
        try:
            disk.lock(handle.fileno(), 20.0)
        except BlockingIOError:
            raise SettingError(
                f"--output {output}",
                expected="no other benchmark in it",
                found="one that is running",
                fix="wait for it, stop it, or choose another folder",
            ) from None
        yield handle.fileno()
