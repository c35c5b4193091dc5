"""``fsa corpus``: builds a TFDS dataset from checked teacher text."""

from __future__ import annotations

import os
from pathlib import Path


def command(
    source: Path,
    data_dir: Path,
    teachers: list[str] | None = None,
    prompts: list[str] | None = None,
    domains: list[str] | None = None,
    max_hallucination: float = 1.0,
    held_out: int = 500,
    seed: int = 0,
    shards: int | None = None,
    beam_options: list[str] | None = None,
    push: str | None = None,
    private: bool = True,
    overwrite: bool = False,
) -> None:
    """Builds sentiment_corpus/analysis and sentiment_corpus/rewriting with provenance, statistics and a dataset card.

    Args:
      source: output of fsa check, or a file in the papers' released layout, which is used without a check.
      data_dir: TFDS data directory; the corpus is written to DATA_DIR/sentiment_corpus.
      teachers: names of teachers to keep; all by default.
      prompts: prompt hashes, or their beginnings, to keep; all by default.
      domains: domains to keep; all by default.
      max_hallucination: rows with a higher hallucination score are left out; ablations can also do that in training.
      held_out: number of rows for the validation split, both forms together; never more than a tenth of all. All rows
        about a review are in the same split.
      seed: random seed; another seed holds out other reviews.
      shards: number of files per split; by default it depends on the size.
      beam_options: Beam pipeline options, such as '["--runner=FlinkRunner", "--flink_master=…"]'; without them the
        corpus is built in this process.
      push: id of a dataset on the Hub to upload the corpus to; fsa push does this later.
      private: whether the dataset on the Hub is created as private.
      overwrite: whether to replace an existing corpus, or the unfinished one of another source or selection.

    Example:
      fsa corpus checked data/corpus
      fsa corpus checked data/corpus --domains restaurants hotels --max-hallucination 0.15
    """
    from rich.table import Table

    # TensorFlow only writes files here; its messages are about accelerators and processors.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
    from fsa_jax.common.terminal import console
    from fsa_jax.corpus.selection import Selection
    from fsa_jax.data.build_corpus import build_corpus

    if push:
        from fsa_jax.serving.push import require_name

        require_name(push)
    selection = Selection(
        teachers=tuple(teachers or ()),
        prompts=tuple(prompts or ()),
        domains=tuple(domains or ()),
        max_hallucination=max_hallucination,
        held_out=held_out,
        seed=seed,
    )
    statistics = build_corpus(
        source,
        data_dir,
        selection,
        shards=shards,
        beam_options=beam_options,
        overwrite=overwrite,
        repository=push,
    )
    terminal = console()
    table = Table("form", "split", "rows", title="sentiment_corpus")
    for form, splits in statistics["parts"].items():
        for split, part in splits.items():
            table.add_row(form, split, f"{part['rows']:,}")
    for reason, count in statistics["left_out"].items():
        table.add_row("left out", reason, f"{count:,}")
    terminal.print(table)
    terminal.print(f"wrote {data_dir}/sentiment_corpus", soft_wrap=True)
    terminal.print(f"next: fsa train --data {data_dir} --student NAME --size 10m", soft_wrap=True, markup=False)
    if push:
        from fsa_jax.serving.push import push_to_hub

        terminal.print(f"pushed: {push_to_hub(data_dir / 'sentiment_corpus', push, private=private)}", soft_wrap=True)
