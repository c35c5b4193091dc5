"""``fsa teach``: asks a teacher about reviews and stores its answers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from fsa_jax.teacher.results import TeachResult


def command(
    reviews: list[str] | str,
    store: Path,
    teacher: str,
    engine: Literal["vllm", "endpoint"] = "vllm",
    endpoint: str | None = None,
    prompts: list[str] | None = None,
    samples: int = 1,
    temperature: float = 0.7,
    top_p: float = 0.95,
    max_tokens: int = 768,
    sampling_extra: dict[str, Any] | None = None,
    seed: int = 0,
    teacher_revision: str | None = None,
    shard: str = "0/1",
    limit: int | None = None,
    in_flight: int | None = None,
    retry_failed: bool = False,
    max_review_characters: int = 20_000,
    max_tokens_total: float | None = None,
    max_cost: float | None = None,
    price_input: float | None = None,
    price_output: float | None = None,
    price_device_hour: float | None = None,
    devices: int | None = None,
    preview: int | None = None,
    dry_run: bool = False,
    tokens_per_second: float | None = None,
    tokenizer: str | None = None,
    tensor_parallel: int = 1,
    pipeline_parallel: int = 1,
    prefix_caching: bool = True,
    engine_args: dict[str, Any] | None = None,
    stall_seconds: float = 600.0,
    max_restarts: int = 3,
    trust_remote_code: bool = False,
    api_key_variable: str = "OPENAI_API_KEY",
    request_timeout: float = 300.0,
    max_attempts: int = 8,
    requests_per_minute: float | None = None,
    tokens_per_minute: float | None = None,
    merge_system: bool = False,
    token_limit_field: Literal["max_tokens", "max_completion_tokens"] = "max_tokens",
    send_seed: bool = True,
    max_consecutive_errors: int = 100,
    stop_seconds: float = 20.0,
) -> int:
    """Asks a teacher about reviews and stores its answers. A request whose answer is stored is never sent again.

    Ctrl-C and SIGTERM give the requests in flight 20 s to finish; any other stop loses them. The same command continues
    the job. Exits with status 1 if some requests are not done.

    Args:
      reviews: output of fsa sample, the papers' release, or a dump; one or more.
      store: folder of generations.
      teacher: name of the model for vLLM or the endpoint.
      engine: vllm runs the model here (in the teacher's environment); endpoint asks a server.
      endpoint: base URL of an OpenAI-compatible server, such as http://localhost:8000/v1; implies --engine endpoint.
      prompts: prompts by name (analysis is the newest analysis-vN) or path; analysis and rewriting by default.
      samples: number of answers to each prompt.
      temperature: sampling temperature; 0 is greedy decoding.
      top_p: probability mass of the tokens to sample from (nucleus sampling).
      max_tokens: length limit of an answer in tokens.
      sampling_extra: further sampling settings, such as top_k=40; chat_template_kwargs sets variables of the
        chat template.
      seed: random seed; another seed gives other texts.
      teacher_revision: commit of the model on the Hub; for an endpoint any text that identifies its weights.
      shard: i/n asks about part i (from 0) of n parts of the reviews, for one machine per part.
      limit: largest number of reviews.
      in_flight: number of simultaneous requests; a kill can lose this many. By default 256 for an endpoint, and twice
        the batch size for vLLM.
      retry_failed: whether to send requests again whose failure is stored.
      max_review_characters: longer reviews are stored as failures, without sending them.
      max_tokens_total: limit on the input and output tokens of this teacher in the store; the job stops there.
      max_cost: limit on the cost of this teacher, in the currency of the prices.
      price_input: price of a million input tokens. The store keeps prices: by default the last one that was given.
      price_output: price of a million output tokens.
      price_device_hour: price of an accelerator for an hour.
      devices: number of accelerators that the engine uses; by default those that vLLM was given.
      preview: sends only this many requests, such as 5; shows prompts and answers side by side, and what the job costs.
      dry_run: only estimates tokens, hours and cost of the missing answers, and sends nothing.
      tokens_per_second: speed in output tokens per second, for --dry-run; by default that of earlier answers.
      tokenizer: tokenizer that counts tokens exactly in a --dry-run for an endpoint.
      tensor_parallel: vLLM: number of accelerators that share each layer.
      pipeline_parallel: vLLM: number of groups of accelerators that each have some of the layers.
      prefix_caching: vLLM: whether to compute the common part of prompts only once.
      engine_args: vLLM: further engine arguments, such as max_model_len=4096.
      stall_seconds: vLLM: the engine is restarted if no request has ended for this long.
      max_restarts: vLLM: number of restarts in a row without an answer after which the job stops.
      trust_remote_code: whether to run Python code in the folder of the model or its tokenizer; by default it is never
        run.
      api_key_variable: endpoint: environment variable with the API key.
      request_timeout: endpoint: seconds for one attempt, until the whole answer is received.
      max_attempts: endpoint: number of attempts before a request is stored as a failure.
      requests_per_minute: endpoint: rate limit.
      tokens_per_minute: endpoint: rate limit, input and output together.
      merge_system: endpoint: whether to send the instructions in the user message, for models without a system role.
      token_limit_field: endpoint: the server's name for max_tokens.
      send_seed: endpoint: false for servers that refuse a seed.
      max_consecutive_errors: number of engine errors in a row after which the job stops.
      stop_seconds: seconds that Ctrl-C or SIGTERM waits for answers in flight.

    Example:
      fsa teach reviews.parquet generations mistralai/Mixtral-8x7B-Instruct-v0.1 --tensor-parallel 2
      fsa teach reviews.parquet generations gpt-4o-mini --endpoint https://api.openai.com/v1 --prompts analysis
    """
    options = dict(locals())

    import shlex
    import sys

    from fsa_jax.common.terminal import printable
    from fsa_jax.teacher.cost_report import print_estimate, print_report
    from fsa_jax.teacher.preview_view import print_preview
    from fsa_jax.teacher.progress import shown_progress
    from fsa_jax.teacher.teach import teach

    with shown_progress() as progress:
        result = teach(**options, progress=progress, say=lambda line: print(printable(line), file=sys.stderr))
    if result.preview is not None:
        _print_losses(result)
        print_preview(result, _command_without_preview(options))
        return 1 if result.stopped else 0
    if result.estimate is not None:
        print(f"{result.skipped:,} requests are in the store already")
        _print_losses(result)
        print_estimate(result.estimate, result.prices)
        return 0
    print(
        f"{result.done:,} answers and {result.failed:,} failures stored in {result.seconds:,.0f} s; "
        f"{result.skipped:,} were stored before"
    )
    for reason, count in result.failures.items():
        print(f"  failed, {reason}: {count:,}")
    _print_losses(result)
    for line in result.remarks:
        print(f"  {line}")
    if result.failed:
        print("  to retry failures, run the same command with --retry-failed")
    if result.stopped:
        print(f"stopped early, {result.stopped}; run the same command again to continue")
    if result.done or result.failed or result.skipped:
        print_report(store)
    files = [reviews] if isinstance(reviews, str) else reviews
    if not result.stopped and len(files) == 1 and Path(files[0]).exists():
        print(f"next: {shlex.join(['fsa', 'check', str(store), 'checked', '--reviews', files[0]])}")
    return 1 if result.stopped else 0


def _print_losses(result: TeachResult) -> None:
    from fsa_jax.common.terminal import printable

    losses = result.losses
    for reason, count in losses.dropped.most_common():
        places = printable(", ".join(losses.places[reason][:3]))
        print(f"  not asked about, {reason}: {count:,} rows ({places})")
    for reason, count in losses.repaired.most_common():
        print(f"  fixed, {reason}: {count:,} rows")


def _command_without_preview(options: Mapping[str, Any]) -> str:
    """The command with the options that differ from their defaults, for a shell."""
    import inspect
    import json
    import shlex

    from fsa_jax.teacher.http_client import url_without_secrets

    if options["endpoint"] and url_without_secrets(options["endpoint"]) != options["endpoint"]:
        return "the same command without --preview"
    words = ["fsa", "teach"]
    for name, parameter in inspect.signature(command).parameters.items():
        value = options[name]
        text = json.dumps(value) if isinstance(value, bool | dict | list) else str(value)
        if parameter.default is inspect.Parameter.empty:
            words.append(text)
        elif value != parameter.default and name != "preview":
            words += [f"--{name.replace('_', '-')}", text]
    return shlex.join(words)
