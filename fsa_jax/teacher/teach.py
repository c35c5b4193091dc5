"""``teach``: the command ``fsa teach`` as a function."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from fsa_base.errors import SettingError, require_choice, require_number
from fsa_jax.reviews.source import Source
from fsa_jax.teacher.endpoint import EndpointSettings
from fsa_jax.teacher.generation_requests import RequestMaker, SamplingSettings, Teacher, load_prompt
from fsa_jax.teacher.http_client import read_api_key
from fsa_jax.teacher.interruption import Interruption
from fsa_jax.teacher.job import JobSettings
from fsa_jax.teacher.preview import preview as run_preview
from fsa_jax.teacher.progress import Progress
from fsa_jax.teacher.results import TeachResult
from fsa_jax.teacher.run_teach import Listener, Task, estimate_missing, run
from fsa_jax.teacher.store.shard_files import Shard
from fsa_jax.teacher.vllm_sidecar import VllmSettings, require_vllm, resolve_revision

_AT_LEAST = {
    "limit": 1,
    "in_flight": 1,
    "preview": 1,
    "samples": 1,
    "max_review_characters": 1,
    "max_consecutive_errors": 1,
    "tensor_parallel": 1,
    "pipeline_parallel": 1,
    "max_tokens_total": 0,
    "max_cost": 0,
    "devices": 0,
    "max_restarts": 0,
    "stop_seconds": 0,
}
"""The lowest value of arguments that are numbers; None is always allowed. Prices, settings of an endpoint and sampling
settings are checked where they are used."""
_ABOVE_ZERO = ("tokens_per_second", "requests_per_minute", "tokens_per_minute", "stall_seconds")
_FIX_CHOICE = "write {setting} {choice}"


def teach(  # noqa: D417 - `fsa teach --help` describes the options
    reviews: str | Path | Sequence[str | Path],
    store: str | Path,
    teacher: str,
    *,
    engine: Literal["vllm", "endpoint"] = "vllm",
    endpoint: str | None = None,
    prompts: str | Sequence[str] | None = None,
    samples: int = 1,
    temperature: float = 0.7,
    top_p: float = 0.95,
    max_tokens: int = 768,
    sampling_extra: Mapping[str, Any] | None = None,
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
    engine_args: Mapping[str, Any] | None = None,
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
    progress: Callable[[Progress], None] | None = None,
    say: Callable[[str], None] | None = None,
) -> TeachResult:
    """Asks a teacher about reviews and stores its answers. A request whose answer is stored is never sent again.

    The function returns when the job has ended. It can be called in a script, in a thread and in a notebook. Called in
    the main thread, Ctrl-C and SIGTERM end the job as they end the command: it returns a result with ``stopped``. To
    read the answers, use ``fsa_jax.teacher.store.reader.generations``.

    Example:
      >>> result = teach("reviews.parquet", "store", "gpt-4o-mini", endpoint="https://api.openai.com/v1", limit=100)
      >>> result.done, result.failed, result.cost

    Args:
      reviews: files or folders with reviews.
      store: folder of generations.
      teacher: name of the model for vLLM or the endpoint.
      prompts: one or more prompts, by name or path; None for analysis and rewriting.
      preview: number of requests at the start of the job, which alone are sent; ``result.preview`` has their answers.
      dry_run: sends nothing; ``result.estimate`` has the estimate.
      progress: called every second with the progress, in the thread of the job. If it raises an error, the job ends
        after the requests in flight, and the error is raised again.
      say: called with single lines: changed prices, unfinished lines of a killed job, the server that is asked and its
        first trouble, a signal.

    All other arguments are the options of ``fsa teach``, and ``fsa teach --help`` describes them.

    Returns:
      Counts of answers, failures and requests that were stored before; tokens and cost.

    Raises:
      SettingError: an argument has an unusable value.
      DataError: the reviews or a prompt cannot be read.
      TeacherError: the engine or the server does not answer.
      StoreError: the store cannot be written, is damaged, or another job writes it.
    """
    given = dict(locals())
    for name in (*_AT_LEAST, *_ABOVE_ZERO):
        option = f"--{name.replace('_', '-')}"
        require_number(option, given[name], _AT_LEAST.get(name, 0), above=name in _ABOVE_ZERO)
    require_choice("--engine", engine, ("vllm", "endpoint"), _FIX_CHOICE)
    require_choice("--token-limit-field", token_limit_field, ("max_tokens", "max_completion_tokens"), _FIX_CHOICE)
    if engine == "endpoint" and endpoint is None:
        raise SettingError("--endpoint", expected="the server's URL", found="nothing", fix="add --endpoint URL")
    if dry_run and preview is not None:
        raise SettingError("--preview", expected="no --dry-run", found="both", fix="omit one: a preview estimates too")
    sampling = SamplingSettings(temperature, top_p, max_tokens, sampling_extra or {})
    names = [prompts] if isinstance(prompts, str) else prompts
    loaded = [load_prompt(name) for name in names or ("analysis", "rewriting")]
    served: EndpointSettings | VllmSettings
    if endpoint is not None:
        served = EndpointSettings(
            url=endpoint,
            api_key=read_api_key(api_key_variable) or "none",
            timeout=request_timeout,
            max_attempts=max_attempts,
            requests_per_minute=requests_per_minute,
            tokens_per_minute=tokens_per_minute,
            merge_system=merge_system,
            token_limit_field=token_limit_field,
            send_seed=send_seed,
        )
    else:
        if not dry_run:
            # Before the Hub is asked, which takes half a minute without a network.
            require_vllm()
        served = VllmSettings(
            tensor_parallel,
            pipeline_parallel,
            prefix_caching,
            dict(engine_args or {}),
            stall_seconds,
            max_restarts,
            trust_remote_code,
        )
        teacher_revision = resolve_revision(teacher, teacher_revision)
    prices = {"input": price_input, "output": price_output, "device_hour": price_device_hour}
    task = Task(
        sources=[Source.parse(str(text)) for text in ([reviews] if isinstance(reviews, str | Path) else reviews)],
        limit=limit,
        store=Path(store),
        shard=Shard.parse(shard),
        maker=RequestMaker(
            Teacher(teacher, teacher_revision, sampling, seed),
            loaded,
            samples,
        ),
        engine=served,
        settings=JobSettings(in_flight, max_review_characters, max_consecutive_errors),
        given_prices={name: price for name, price in prices.items() if price is not None},
        max_tokens_total=max_tokens_total,
        max_cost=max_cost,
        devices=devices,
        retry_failed=retry_failed,
        stop_seconds=stop_seconds,
        trust_remote_code=trust_remote_code,
    )
    if dry_run:
        return estimate_missing(task, tokens_per_second, tokenizer)
    listener = Listener(progress, say or (lambda line: None))
    interruption = Interruption(stop_seconds, listener.say)
    if preview is not None:
        return run_preview(
            task, preview, listener, interruption, tokens_per_second=tokens_per_second, tokenizer=tokenizer
        )
    return interruption.run(run(task, listener, interruption))
