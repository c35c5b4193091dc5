"""The whole demo: generated data, teacher text, vocabulary, distillation, fine-tuning, and the report page."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text
from tqdm import tqdm

from fsa_jax.benchmark.processes import Command, CommandFailed, Pool, last_step
from fsa_jax.demo import run_outputs, train_vocabulary
from fsa_jax.demo.commands import Commands
from fsa_jax.demo.ledger import Ledger, Stage, claimed
from fsa_jax.demo.page import Circumstances, claim, page, table
from fsa_jax.demo.plan import Finetuning, Plan
from fsa_jax.demo.results import ARMS, Results, best_rate
from fsa_jax.demo.settings import DemoSettings, Layout
from fsa_jax.evaluation.report import render
from fsa_jax.synthetic.files import TEACHER_FILE, generate
from fsa_jax.synthetic.oracle import Oracle
from fsa_jax.synthetic.world import SplitSizes


class Demo:
    """One demo in one folder.

    Args:
      settings: sizes of the demo.
      root: folder of the demo.
      workers: number of parallel trainings; None for one per core, at most four.
      command: command that the user typed, for the page.
      console: console for messages.

    Raises:
      SettingError: a size is unusable.
      MissingDataError: a gin file is missing.
    """

    def __init__(self, settings: DemoSettings, root: Path, workers: int | None, command: str, console: Console) -> None:
        self._settings = settings.check()
        self._layout = Layout(root.absolute())
        self._workers = workers
        self._command = command
        self._console = console
        self._ledger = Ledger(self._layout.stages)
        self._plan = Plan(settings, self._layout)
        self._commands = Commands(settings, self._layout)
        self._times: list[tuple[str, float]] = []

    def run(self) -> Results:
        """Runs the stages that are not complete, shows the table and writes the page.

        Raises:
          FsaError: an error that the user can fix.
          CommandFailed: a training command ended with an error.
        """
        settings, plan = self._settings, self._plan
        with claimed(self._layout.root, self._layout.stages) as held:
            pool = Pool(self._workers, held)
            self._one("reviews, labels and teacher text", plan.world(), self._generate)
            self._one("vocabulary", plan.vocabulary(), self._train_vocabulary)
            self._one("distillation", plan.distilled(), lambda: self._distil(pool))
            search = [(arm, rate, settings.seeds[0]) for rate in settings.learning_rates for arm in ARMS]
            self._finetune("search of the learning rates", search, pool)
            trials = [run_outputs.trial(self._layout, run) for run in search]
            rates = {arm: best_rate(trials, arm) for arm in ARMS}
            self._say("   best on dev: " + ", ".join(f"{arm} {rate:g}" for arm, rate in rates.items()))
            finals = [(arm, rates[arm], seed) for seed in settings.seeds for arm in ARMS]
            rest = [run for run in finals if run not in search]
            self._finetune("fine-tuning with the other seeds", rest, pool)
            trials += [run_outputs.trial(self._layout, run) for run in rest]
            self._test("scoring on the test sentences", finals, pool)
            sentences = run_outputs.test_sentences(self._layout)
            results = run_outputs.measure(settings, self._layout, sentences, trials, finals)
            self._layout.results.write_text(results.model_dump_json(indent=1))
            report = page(results, settings, sentences, run_outputs.lesson(self._layout), self._circumstances())
            self._layout.report.write_text(render(report), encoding="utf-8")
        self._show(results)
        return results

    def _say(self, text: str) -> None:
        self._console.print(text, highlight=False, markup=False)

    def _one(self, title: str, stage: Stage, work: Callable[[], None]) -> None:
        if self._ledger.is_done(stage):
            self._say(f"✓ {title}: done before")
        else:
            self._say(f"▶ {title}")
            with self._ledger.working_on(stage):
                work()
        self._times.append((title, self._ledger.seconds(stage)))

    def _generate(self) -> None:
        settings = self._settings
        sizes = SplitSizes(
            train=settings.labelled_sentences,
            dev=settings.dev_sentences,
            test=settings.test_sentences,
            hard_test=settings.test_sentences,
        )
        oracle = Oracle(settings.world_seed, settings.mistake_rate, settings.hallucination_rate)
        with self._bar(settings.reviews, "reviews") as bar:
            generate(self._layout.data, settings.world_seed, settings.reviews, sizes, oracle, progress=bar.update)

    def _train_vocabulary(self) -> None:
        train_vocabulary.train(self._layout.data / TEACHER_FILE, self._settings.pieces, self._layout.vocabulary)

    def _distil(self, pool: Pool) -> None:
        command = self._commands.distil()
        self._say(f"   {command}")
        pool.run([command])
        _require_checkpoint(self._layout.distilled, self._settings.distillation_steps)

    def _finetune(self, title: str, runs: Sequence[Finetuning], pool: Pool) -> None:
        folders = [self._layout.finetuned(*run) for run in runs]
        steps = self._settings.finetuning_steps
        metrics = [folder / "train" / "metrics.jsonl" for folder in folders]
        self._many(
            title,
            [self._plan.finetuned(run) for run in runs],
            [self._commands.finetune(*run) for run in runs],
            pool,
            total=steps,
            count=lambda index: last_step(metrics[index]),
            check=lambda index: _require_checkpoint(folders[index], steps),
        )

    def _test(self, title: str, runs: Sequence[Finetuning], pool: Pool) -> None:
        stages = [self._plan.tested(run) for run in runs]
        self._many(title, stages, [self._commands.evaluate(*run) for run in runs], pool)

    def _many(
        self,
        title: str,
        stages: Sequence[Stage],
        commands: Sequence[Command],
        pool: Pool,
        total: int = 1,
        count: Callable[[int], int] = lambda index: 0,
        check: Callable[[int], None] = lambda index: None,
    ) -> None:
        """Runs the commands of unfinished stages in parallel; ``count`` returns the progress of a command."""
        # This stage is done when all of them are, and records how long they took in parallel.
        together = Stage(f"together/{title.replace(' ', '-')}", {}, (), stages)
        todo = [index for index, stage in enumerate(stages) if not self._ledger.is_done(stage)]
        if not todo:
            self._say(f"✓ {title}: done before")
        else:
            self._say(f"▶ {title}: {len(todo)} runs, {min(pool.workers, len(todo))} at a time, such as")
            self._say(f"   {commands[todo[0]]}")
            for index in todo:
                self._ledger.begin(stages[index])
            done: set[int] = set()
            with (
                self._ledger.working_on(together),
                self._bar(total * len(todo), "steps" if total > 1 else "runs") as bar,
            ):
                looked = 0.0

                def watch() -> None:
                    nonlocal looked
                    if time.monotonic() - looked > 1.0:
                        looked = time.monotonic()
                        bar.update(sum(total if index in done else count(index) for index in todo) - bar.n)

                def finish(position: int, seconds: float) -> None:
                    index = todo[position]
                    check(index)
                    self._ledger.finish(stages[index], seconds)
                    done.add(index)

                pool.run([commands[index] for index in todo], watch, finish)
                bar.update(total * len(todo) - bar.n)
        self._times.append((title, self._ledger.seconds(together)))

    def _bar(self, total: int, unit: str) -> tqdm:
        terminal = self._console.is_terminal
        # Without a terminal, one line every 15 seconds.
        return tqdm(
            total=total,
            unit=f" {unit}",
            leave=not terminal,
            ncols=90,
            ascii=None if terminal else True,
            bar_format=_BAR,
            mininterval=0.2 if terminal else 15.0,
            file=self._console.file,
        )

    def _circumstances(self) -> Circumstances:
        return Circumstances(
            command=self._command,
            made=time.strftime("%-d %B %Y"),
            versions=tuple(run_outputs.versions()),
            hardware=tuple(run_outputs.hardware()),
            seconds=tuple(self._times),
            parameters=run_outputs.parameters(self._layout),
        )

    def _show(self, results: Results) -> None:
        shown = table(results)
        view = Table(caption=shown.caption, caption_justify="left")
        for index, column in enumerate(shown.columns):
            view.add_column(column, justify="left" if index == 0 else "right")
        for row in shown.rows:
            view.add_row(*(Text(cell.text, "bold" if cell.strong else "") for cell in row))
        self._console.print(view)
        self._say(claim(results, self._settings))
        self._say(f"\nThe page: {os.path.relpath(self._layout.report)}")


_BAR = "   {l_bar}{bar}| {n_fmt}/{total_fmt}{unit} [{elapsed}<{remaining}]"


def _require_checkpoint(folder: Path, step: int) -> None:
    """Raises CommandFailed if a training stopped early: after a signal it saves and exits without an error."""
    if not (folder / f"checkpoint_{step}").is_dir():
        raise CommandFailed(
            f"{folder}: the training stopped before step {step}; run the same command again to continue"
        )
