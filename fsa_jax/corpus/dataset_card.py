"""The dataset card (README) of a corpus, in Markdown, with the front matter that the Hugging Face Hub reads."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import PurePath
from typing import Any

from fsa_jax.common.markdown import escaped

_SIZES = {"n<1K": 10**3, "1K<n<10K": 10**4, "10K<n<100K": 10**5, "100K<n<1M": 10**6, "1M<n<10M": 10**7}
"""The Hub's categories of size, and the first number of rows above them."""

_USE = """## Use

The files are a TFDS dataset with one configuration per form. fsa_jax trains on it if this folder is
`$FSA_DATA_DIR/corpus/sentiment_corpus`. Without fsa_jax:

```python
import tensorflow_datasets as tfds
{folder}
dataset = tfds.builder_from_directory(f"{{folder}}/{form}/1.0.0").as_dataset(split="{split}")
for row in dataset.take(1):
    print(row["review"].numpy().decode(), row["response"].numpy().decode(), sep="\\n\\n")
```
"""
_FIELDS = """## Fields

- `review_id`, `review`, `stars`, `domain`: the review
- `response`: the teacher text that the student learns
- `teacher`, `teacher_revision`, `prompt_hash`, `sampling`, `seed`, `sample`: how the text was generated
- `verdict`, `repairs`: result of the check
- `hallucination` (share of opinions or sentences with something that is not in the review), `stars_gap`, `partner_gap`,
  `implicit_share` (share of the review's sentences without opinion words), all 0 to 1, and `lean`, -1 to 1: scores, NaN
  where unknown; docs/checking.md explains them

## Limits

A language model wrote the text: sentiments may be wrong and reasons invented even if every target is in its review. The
scores come from rules, not from human judgement. Reviews and teacher text keep the licences of their sources.
"""


def card(
    statistics: dict[str, Any],
    source: str,
    selection: dict[str, Any],
    check: dict[str, Any] | None,
    repository: str | None = None,
) -> str:
    """The card of a corpus.

    Args:
      statistics: result of Summary.as_json.
      source: path from which the corpus was built; the card has only its last part, because cards are published.
      selection: Selection as a dict.
      check: content of the check's check.json; None if the rows were not checked.
      repository: name of the repository on the Hub, if the corpus is uploaded after the build.
    """
    parts = [(form, split, part) for form, splits in statistics["parts"].items() for split, part in splits.items()]
    rows = sum(part["rows"] for _, _, part in parts)
    teachers = sorted({name for _, _, part in parts for name in part["teachers"]})
    lines = [
        _front_matter(rows),
        "# sentiment_corpus",
        "",
        "Reviews with the sentiment understanding that a teacher wrote about them, to distil into a small student "
        "(arXiv 2412.18552): `analysis` lists opinion targets with aspects, sentiment and reasoning, `rewriting` "
        "restates the review in the first person with explicit sentiment.",
        "",
        "| form | split | rows | opinions | review words (5/50/95%) | response words (5/50/95%) | hallucination |",
        "| --- | --- | ---: | ---: | --- | --- | ---: |",
    ]
    for form, split, part in parts:
        rate = part["hallucination_rate"]
        lines.append(
            f"| {form} | {split} | {part['rows']:,} | {part['opinions']:,} | {_slashed(part['review_words'])} | "
            f"{_slashed(part['response_words'])} | {'not checked' if rate is None else f'{rate:.3f}'} |"
        )
    lines += ["", "## Source", "", f"- built from {escaped(PurePath(source).name)}"]
    if statistics.get("reviews"):
        lines.append(f"- reviews: {statistics['reviews']:,}")
    lines.append(f"- selection: {escaped(json.dumps(selection))}")
    lines += [f"- teacher and prompt: {escaped(name)}" for name in teachers]
    for name, title in (("domains", "domain"), ("stars", "stars"), ("verdicts", "verdict")):
        total: Counter[str] = Counter()
        for _, _, part in parts:
            total.update(part[name])
        lines.append(f"- rows by {title}: {_counted(dict(total.most_common()))}")
    if statistics["left_out"]:
        lines.append(f"- left out: {_counted(statistics['left_out'])}")
    if check is not None:
        lines.append(f"- dropped by the check before: {_counted(check['reasons']) or 'none'}")
    lines.append("")
    if parts:
        form, split, _ = parts[0]
        lines.append(_USE.format(form=form, split=split, folder=_folder(repository)))
    return "\n".join([*lines, _FIELDS])


def _front_matter(rows: int) -> str:
    from huggingface_hub import DatasetCardData

    data = DatasetCardData(
        language="en",
        license="other",
        task_categories=["text-generation"],
        size_categories=next((name for name, above in _SIZES.items() if rows < above), "n>10M"),
        pretty_name="sentiment_corpus",
        tags=["sentiment-analysis", "distillation", "aspect-based-sentiment-analysis", "synthetic"],
        # The Hub's viewer of rows does not read TFRecord files.
        viewer=False,
    )
    return f"---\n{data.to_yaml()}\n---\n"


def _folder(repository: str | None) -> str:
    if repository is None:
        return '\nfolder = "sentiment_corpus"  # this folder'
    download = f'snapshot_download({json.dumps(repository)}, repo_type="dataset")'
    return f"from huggingface_hub import snapshot_download\n\nfolder = {download}"


def _counted(counts: dict[str, int]) -> str:
    return ", ".join(f"{escaped(name)} {count:,}" for name, count in counts.items())


def _slashed(percentiles: dict[str, int]) -> str:
    return "/".join(str(value) for value in percentiles.values())
