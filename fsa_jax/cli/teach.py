"""``fsa teach``: asks a teacher about reviews and stores what it says."""

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
    """Asks a teacher about reviews and stores what it says; what the store holds already is never asked again.

    Stop it with Ctrl-C or SIGTERM (what is in flight has 20 s to finish), or with anything else (what is in flight is
    lost): the same command goes on where it was. Exits with 1 where requests are left undone.

    Args:
      reviews: what fsa sample wrote, the papers' release, or a dump; several as '["a.parquet", "b.parquet"]'.
      store: folder of generations.
      teacher: the model, as vLLM or the endpoint knows it.
      engine: vllm runs the model here (in the teacher's own environment); endpoint asks a server.
      endpoint: base URL of an OpenAI-compatible server, such as http://localhost:8000/v1; implies --engine endpoint.
      prompts: prompts by name (analysis is the newest analysis-vN) or path; analysis and rewriting by default.
      samples: answers to each prompt.
      temperature: 0 is greedy.
      top_p: share of the probability that tokens are drawn from.
      max_tokens: longest answer.
      sampling_extra: further sampling settings, such as '{"top_k": 40}'; chat_template_kwargs sets variables of the
        chat template.
      seed: another seed draws other texts.
      teacher_revision: commit of the model on the Hub; for an endpoint whatever names its weights.
      shard: i/n asks about the i-th of n parts of the reviews, i from 0; one machine each.
      limit: only the first so many reviews.
      in_flight: requests under way at once, which is what a kill can lose; by default 256 for an endpoint, and for vLLM
        twice what it computes at once.
      retry_failed: asks again where the store holds a failure.
      max_review_characters: longer reviews are stored as failures, unasked.
      max_tokens_total: input and output tokens that the store may hold of this teacher before the job stops.
      max_cost: likewise, in the currency of the prices.
      price_input: price of a million input tokens.
      price_output: price of a million output tokens.
      price_device_hour: price of an accelerator for an hour.
      devices: accelerators that the engine occupies; by default what vLLM was given.
      dry_run: estimates tokens, hours and cost of what is missing, and asks nothing.
      tokens_per_second: output tokens, for --dry-run; by default the speed that the store remembers.
      tokenizer: counts tokens exactly in a --dry-run for an endpoint.
      tensor_parallel: vLLM: accelerators that share each layer.
      pipeline_parallel: vLLM: groups of accelerators that hold some layers each.
      prefix_caching: vLLM: computes what prompts have in common once.
      engine_args: vLLM: further engine arguments, such as '{"max_model_len": 4096}'.
      stall_seconds: vLLM: the engine is restarted when no request has ended for so long.
      max_restarts: vLLM: restarts in a row without an answer before the job stops.
      trust_remote_code: runs Python code that comes in the folder of the model or of its tokenizer; never without it.
      api_key_variable: endpoint: environment variable that holds the key.
      request_timeout: endpoint: seconds for one attempt, until its whole answer is there.
      max_attempts: endpoint: attempts before a request is stored as a failure.
      requests_per_minute: endpoint: rate limit.
      tokens_per_minute: endpoint: rate limit, input and output together.
      merge_system: endpoint: sends the instructions in the user message, for models without a system role.
      token_limit_field: endpoint: what the server calls max_tokens.
      send_seed: endpoint: false for servers that refuse a seed.
      max_consecutive_errors: engine errors in a row before the job stops.
      stop_seconds: Ctrl-C or SIGTERM waits so long for answers that are under way.
    """
    import asyncio

    from fsa_base.errors import SettingError
    from fsa_jax.reviews.source import Source
    from fsa_jax.teacher import teaching
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
        raise SettingError("--in-flight", expected="at least 1", found=str(in_flight), fix="leave it out")
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
    task = teaching.Task(
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
        teaching.print_estimate(task, tokens_per_second, tokenizer)
        return 0
    return asyncio.run(teaching.teach(task))
