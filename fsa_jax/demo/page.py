"""The report page of the demo: main result, table, plots, examples and settings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fsa_jax.common.records import LabelledSentence
from fsa_jax.demo.results import ARMS, TEST_SUBSETS, Results, gold_pairs
from fsa_jax.demo.settings import DemoSettings
from fsa_jax.evaluation.report import Cell, Example, Examples, Facts, Plot, Prediction, Report, Section, Table, Texts

NAMES = {"scratch": "from scratch", "distilled": "distilled"}
SUBSET_NAMES = {"original": "easy", "hard": "hard", "implicit": "implicit", "multi": "several polarities"}
_COLOURS = {"scratch": "#8a93a3", "distilled": "#1f5fbf"}
_EXAMPLES = 12


@dataclass(frozen=True)
class Circumstances:
    """Information that a reader needs to judge and repeat the result."""

    command: str
    made: str
    """Date and machine of the run."""
    versions: tuple[tuple[str, str], ...]
    hardware: tuple[tuple[str, str], ...]
    seconds: tuple[tuple[str, float], ...]
    """Name and seconds of each stage."""
    parameters: int
    """Number of parameters of the student."""


@dataclass(frozen=True)
class Lesson:
    """A review and the two texts of the oracle teacher about it."""

    review: str
    stars: float | None
    analysis: str
    rewriting: str


def claim(results: Results, settings: DemoSettings) -> str:
    """The main result in one sentence."""
    gain = results.gains["hard"]
    verdict = "beats" if gain.low > 0 else "falls behind" if gain.high < 0 else "cannot be told apart from"
    return (
        f"With {settings.labelled_sentences} labelled sentences, the student distilled from teacher text for "
        f"{settings.reviews:,} reviews {verdict} the same student trained from scratch on hard sentences: "
        f"F1 {results.mean('distilled', 'hard'):.1f} against {results.mean('scratch', 'hard'):.1f}, "
        f"a difference of {gain.mean:+.1f} points (95 % interval {gain.low:+.1f} to {gain.high:+.1f})."
    )


def table(results: Results) -> Table:
    """F1 by arm and test set, and the gain."""
    subsets = [subset for subset in TEST_SUBSETS if subset in results.gains]
    rows = []
    for arm in ARMS:
        cells = [Cell(NAMES[arm])]
        for subset in subsets:
            mean = results.mean(arm, subset)
            best = mean == max(results.mean(other, subset) for other in ARMS)
            cells.append(Cell(f"{mean:.1f} ± {results.deviation(arm, subset):.1f}", strong=best))
        rows.append(tuple(cells))
    gains = [results.gains[subset] for subset in subsets]
    rows.append((Cell("gain"), *(Cell(f"{gain.mean:+.1f}", strong=gain.low > 0) for gain in gains)))
    rows.append((Cell("95 % interval"), *(Cell(f"{gain.low:+.1f} to {gain.high:+.1f}") for gain in gains)))
    seeds = len(results.of("distilled"))
    return Table(
        caption=f"F1 of (term, polarity) pairs in percent: mean ± standard deviation over {seeds} seeds. Gain: "
        "distilled minus from scratch; its interval is from a paired bootstrap over sentences and seeds.",
        columns=("Student", *(f"{SUBSET_NAMES[subset]} (n={results.counts[subset]})" for subset in subsets)),
        rows=tuple(rows),
    )


def page(
    results: Results,
    settings: DemoSettings,
    sentences: Sequence[LabelledSentence],
    lesson: Lesson,
    circumstances: Circumstances,
) -> Report:
    """Builds the page; ``sentences`` are the test sentences in the order of the predictions."""
    minutes = sum(seconds for _, seconds in circumstances.seconds) / 60
    return Report(
        title="Distilling fine-grained sentiment understanding into a small student",
        claim=claim(results, settings),
        note=f"fsa demo, {circumstances.made}, {minutes:.1f} minutes. The restaurant and laptop reviews are generated, "
        "with known opinions; the teacher is an oracle that makes errors at a set rate. Models, training and scoring "
        "are those for real data. The numbers show that the flow works, not how good it is on real text.",
        sections=(
            _result_section(results, settings),
            _training_section(results, settings),
            _example_section(results, sentences),
            _lesson_section(lesson, settings),
            _how_section(settings, circumstances),
        ),
    )


def _result_section(results: Results, settings: DemoSettings) -> Section:
    return Section(
        "Result",
        "Both students have the same architecture, labelled sentences and number of fine-tuning steps. The learning "
        f"rate of each was searched on dev sentences over the same {len(settings.learning_rates)} values. Hard "
        "sentences are implicit, ironic or negated, express wishes or comparisons, or combine opposite polarities; no "
        "dev or test sentence occurs in the reviews.",
        (table(results), Plot("Test F1 of every run; the bar is the mean.", _describe(results), _f1_plot(results))),
    )


def _training_section(results: Results, settings: DemoSettings) -> Section:
    last = results.distillation[-1] if results.distillation else (0, float("nan"))
    rates = ", ".join(f"{NAMES[arm]} {results.of(arm)[0].learning_rate:g}" for arm in ARMS)
    return Section(
        "Training",
        f"Distillation teaches analyses and rewritings for {settings.distillation_steps} steps; fine-tuning takes "
        f"{settings.finetuning_steps} steps on labelled sentences. Chosen learning rates: {rates}.",
        (
            Plot(
                "Distillation: cross-entropy per target token.",
                f"The distillation loss falls to {last[1]:.2f} at step {last[0]}.",
                _loss_plot(results),
            ),
            Plot(
                "Search of the learning rate: dev F1 after fine-tuning.",
                "Dev F1 of both students at each learning rate.",
                _search_plot(results),
            ),
            Plot(
                "Fine-tuning at the chosen rates: dev F1 by step, one line per seed.",
                "Dev F1 of both students during fine-tuning.",
                _curve_plot(results),
            ),
        ),
    )


def _example_section(results: Results, sentences: Sequence[LabelledSentence]) -> Section:
    runs = [results.of(arm)[0] for arm in ARMS]
    hard = [index for index, sentence in enumerate(sentences) if sentence.hard]
    stride = max(1, len(hard) // _EXAMPLES)
    examples = tuple(
        Example(
            sentences[index].text,
            gold_pairs(sentences[index]),
            tuple(Prediction(NAMES[run.arm], run.predictions[index]) for run in runs),
        )
        for index in hard[::stride][:_EXAMPLES]
    )
    return Section(
        "Hard sentences",
        f"One in {stride} hard test sentences, chosen by position and not by result, with its labels and the "
        f"predictions of the students that were fine-tuned with seed {runs[0].seed}.",
        (Examples("✓ all pairs right, ✗ something missing or wrong.", examples),),
    )


def _lesson_section(lesson: Lesson, settings: DemoSettings) -> Section:
    stars = "no" if lesson.stars is None else f"{lesson.stars:g}"
    return Section(
        "What the teacher writes",
        f"The oracle knows every opinion of a review. It gets {settings.mistake_rate:.0%} of them wrong, and adds an "
        f"opinion about something that is not in the review to {settings.hallucination_rate:.0%} of the reviews.",
        (
            Texts(
                "The student learns both texts. As in the released corpus, its input does not say which one is wanted.",
                (
                    (f"Review, {stars} stars", lesson.review),
                    ("Analysis", lesson.analysis),
                    ("Rewriting", lesson.rewriting),
                ),
            ),
        ),
    )


def _how_section(settings: DemoSettings, circumstances: Circumstances) -> Section:
    named = [(name.replace("_", " "), _value(value)) for name, value in settings]
    seconds = [(name, f"{taken:.0f} s") for name, taken in circumstances.seconds]
    return Section(
        "How to repeat it",
        "The command below repeats the demo; the settings have the seeds of all random choices.",
        (
            Texts("The files of every stage are in the output folder.", (("Command", circumstances.command),)),
            Facts("Settings", (*named, ("student", f"T5, {circumstances.parameters:,} parameters"))),
            Facts("Time", tuple(seconds)),
            Facts("Hardware", circumstances.hardware),
            Facts("Versions", circumstances.versions),
        ),
    )


def _value(value: object) -> str:
    return (
        ", ".join(map(str, value))
        if isinstance(value, tuple)
        else f"{value:,}"
        if isinstance(value, int)
        else str(value)
    )


def _describe(results: Results) -> str:
    parts = [
        f"{NAMES[arm]} {results.mean(arm, subset):.1f} on {SUBSET_NAMES[subset]}"
        for subset in results.gains
        for arm in ARMS
    ]
    return "Mean test F1: " + ", ".join(parts) + "."


def _axes(width: float = 4.4, height: float = 3.4) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="#e3e7ee", linewidth=0.8)
    axes.set_axisbelow(True)
    return figure, axes


def _f1_plot(results: Results) -> Figure:
    figure, axes = _axes(7.5, 3.8)
    subsets = list(results.gains)
    for offset, arm in enumerate(ARMS):
        places = [position + (offset - 0.5) * 0.36 for position in range(len(subsets))]
        means = [results.mean(arm, subset) for subset in subsets]
        axes.bar(places, means, width=0.34, color=_COLOURS[arm], label=NAMES[arm], alpha=0.85)
        for place, subset, mean in zip(places, subsets, means, strict=True):
            values = [run.f1[subset] for run in results.of(arm)]
            axes.plot([place] * len(values), values, "o", color="#1c2330", markersize=3.5)
            axes.annotate(f"{mean:.1f}", (place, max(values)), (0, 5), textcoords="offset points", ha="center", size=9)
    axes.set_xticks(range(len(subsets)), [SUBSET_NAMES[subset] for subset in subsets])
    axes.set_xlabel("test set")
    axes.set_ylabel("F1, %")
    axes.set_ylim(0, 108)
    axes.legend(frameon=False, loc="upper right", ncols=2)
    return figure


def _loss_plot(results: Results) -> Figure:
    figure, axes = _axes()
    steps, losses = zip(*results.distillation, strict=True) if results.distillation else ((), ())
    axes.plot(steps, losses, color=_COLOURS["distilled"], linewidth=1.6)
    axes.set_xlabel("step")
    axes.set_ylabel("loss, nats per target token")
    axes.set_ylim(bottom=0)
    return figure


def _search_plot(results: Results) -> Figure:
    figure, axes = _axes()
    for arm in ARMS:
        seed = results.of(arm)[0].seed
        trials = sorted(
            (trial.learning_rate, trial.dev_f1) for trial in results.trials if trial.arm == arm and trial.seed == seed
        )
        axes.plot(*zip(*trials, strict=True), "o-", color=_COLOURS[arm], label=NAMES[arm])
    axes.set_xscale("log")
    rates = sorted({trial.learning_rate for trial in results.trials})
    axes.set_xticks(rates, [f"{rate:g}" for rate in rates])
    axes.minorticks_off()
    axes.set_xlabel("learning rate at the first step")
    axes.set_ylabel("dev F1, %")
    axes.set_ylim(0, 100)
    axes.legend(frameon=False)
    return figure


def _curve_plot(results: Results) -> Figure:
    figure, axes = _axes()
    for arm in ARMS:
        rate = results.of(arm)[0].learning_rate
        curves = [trial.curve for trial in results.trials if (trial.arm, trial.learning_rate) == (arm, rate)]
        for number, curve in enumerate(curves):
            label = NAMES[arm] if number == 0 else None
            axes.plot(*zip(*curve, strict=True), "o-", color=_COLOURS[arm], label=label, linewidth=1.2, markersize=3)
    axes.set_xlabel("step")
    axes.set_ylabel("dev F1, %")
    axes.set_ylim(0, 100)
    axes.legend(frameon=False)
    return figure
