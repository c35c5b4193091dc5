from __future__ import annotations

from fsa_jax.cli.option_spelling import spelt_out


def command(source: str, top_p: float = 1.0, dry_run: bool = False, send_seed: bool = True, engine_args: str = ""):
    """An example command."""


def test_hyphens_and_flags():
    written = [
        "--x-y",
        "--dry-run",
        "--no-send-seed",
        "--top-p",
        "1",
        "--send-seed",
        "false",
        "--engine-args.a-b=c-d",
        "-v",
    ]
    assert spelt_out(command, written) == [
        "--x-y",
        "--dry_run=true",
        "--send_seed=false",
        "--top_p",
        "1",
        "--send_seed",
        "false",
        "--engine_args.a-b=c-d",
        "-v",
    ]


def test_arguments_in_jsonargparse_spelling_are_unchanged():
    written = ["a-b.jsonl", "--dry_run=true", "--dry_run", "--top_p=0.5", "--config", "x-y.yaml"]
    assert spelt_out(command, written) == ["a-b.jsonl", "--dry_run=true", "--dry_run=true", *written[3:]]
