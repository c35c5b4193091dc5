"""``fsa teach``: asks a teacher about reviews and stores its answers."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal


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
    price_input: float = 0.0,
    price_output: float = 0.0,
    price_device_hour: float = 0.0,
    devices: int | None = None,
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
      price_input: price of a million input tokens.
      price_output: price of a million output tokens.
      price_device_hour: price of an accelerator for an hour.
      devices: number of accelerators that the engine uses; by default those that vLLM was given.
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
    import asyncio

    from fsa_base.errors import SettingError
    from fsa_jax.reviews.source import Source
    from fsa_jax.teacher import run_teach
    from fsa_jax.teacher.cost import Prices
    from fsa_jax.teacher.endpoint import EndpointSettings
    from fsa_jax.teacher.generation_requests import RequestMaker, SamplingSettings, Teacher, load_prompt
    from fsa_jax.teacher.http_client import read_api_key
    from fsa_jax.teacher.job import JobSettings
    from fsa_jax.teacher.store.shard_files import Shard
    from fsa_jax.teacher.vllm_sidecar import VllmSettings, resolve_revision

    prices = Prices(price_input, price_output, price_device_hour)
    if engine == "endpoint" and endpoint is None:
        raise SettingError("--endpoint", expected="the server's URL", found="nothing", fix="add --endpoint URL")
    if in_flight is not None and in_flight < 1:
        raise SettingError("--in-flight", expected="at least 1", found=str(in_flight), fix="omit it")
    sampling = SamplingSettings(temperature, top_p, max_tokens, sampling_extra or {})
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
        served = VllmSettings(
            tensor_parallel,
            pipeline_parallel,
            prefix_caching,
            engine_args or {},
            stall_seconds,
            max_restarts,
            trust_remote_code,
        )
        teacher_revision = resolve_revision(teacher, teacher_revision)
    task = run_teach.Task(
        sources=[Source.parse(text) for text in ([reviews] if isinstance(reviews, str) else reviews)],
        limit=limit,
        store=store,
        shard=Shard.parse(shard),
        maker=RequestMaker(
            Teacher(teacher, teacher_revision, sampling, seed),
            [load_prompt(name) for name in prompts or ("analysis", "rewriting")],
            samples,
        ),
        engine=served,
        settings=JobSettings(in_flight, max_review_characters, max_consecutive_errors),
        prices=prices,
        max_tokens_total=max_tokens_total,
        max_cost=max_cost,
        devices=devices,
        retry_failed=retry_failed,
        stop_seconds=stop_seconds,
        trust_remote_code=trust_remote_code,
    )
    if dry_run:
        run_teach.print_estimate(task, tokens_per_second, tokenizer)
        return 0
    return asyncio.run(run_teach.teach(task))
