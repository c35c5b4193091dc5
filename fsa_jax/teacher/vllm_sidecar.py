"""A teacher in this process: vLLM's asynchronous engine, in a separate environment (requirements-teacher.txt).

This module imports neither JAX nor TensorFlow, and imports vLLM only when an engine starts.
"""

# vLLM is installed only in the teacher's environment.
# pyright: reportMissingImports=false

from __future__ import annotations

import hashlib
import os
import signal
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fsa_base.errors import SettingError, TeacherError
from fsa_jax.reviews.row_to_review import clean_text
from fsa_jax.teacher.answers import ENGINE_ERROR, TOO_LONG, Answer, failed, judge
from fsa_jax.teacher.chat_template import TeacherTokenizer
from fsa_jax.teacher.generation_requests import Request, SamplingSettings, Teacher
from fsa_jax.teacher.watchdog import LostRequestError, Watchdog

TEMPLATE_ARGUMENTS = "chat_template_kwargs"
"""Key in ``SamplingSettings.extra`` for variables of the chat template; vLLM's server uses the same name."""

_EDGE_BYTES = 1 << 20


@dataclass(frozen=True)
class VllmSettings:
    """Settings of vLLM.

    Args:
      tensor_parallel: number of accelerators that share each layer.
      pipeline_parallel: number of groups of accelerators that each have some of the layers.
      prefix_caching: whether to compute the common part of prompts (everything before the review) only once.
      engine_args: further arguments of vLLM's ``AsyncEngineArgs`` by name (``max_model_len``, ``dtype``,
        ``gpu_memory_utilization``, ``quantization``, ``max_num_seqs`` …).
      stall_seconds: the engine counts as hung if no request has ended for this long; must be longer than the time of
        the longest answer.
      max_restarts: number of restarts in a row without an answer after which the job stops.
      trust_remote_code: whether to run Python code that comes with the model.

    Raises:
      SettingError: ``engine_args`` has ``trust_remote_code``.
    """

    tensor_parallel: int = 1
    pipeline_parallel: int = 1
    prefix_caching: bool = True
    engine_args: Mapping[str, Any] = field(default_factory=dict)
    stall_seconds: float = 600.0
    max_restarts: int = 3
    trust_remote_code: bool = False

    def __post_init__(self) -> None:
        if "trust_remote_code" in self.engine_args:
            raise SettingError(
                "--engine-args",
                expected="no trust_remote_code",
                found=str(self.engine_args["trust_remote_code"]),
                fix="use --trust-remote-code, which is also used for the tokenizer",
            )


class _Engine:
    """One running vLLM engine with its processes."""

    def __init__(self, model: str, revision: str | None, settings: VllmSettings) -> None:
        import psutil
        from vllm import AsyncEngineArgs
        from vllm.platforms import current_platform
        from vllm.usage.usage_lib import UsageContext
        from vllm.v1.engine.async_llm import AsyncLLM

        # On a CPU, vLLM 0.31 crashes on a seeded request whose prompt is computed in chunks: it resets the random
        # generator after each chunk, which CPU generators do not support ("CPU Generator does not use offset").
        platform = {"enable_chunked_prefill": False} if current_platform.is_cpu() else {}
        mine = psutil.Process()
        before = {child.pid for child in mine.children(recursive=True)}
        try:
            arguments = AsyncEngineArgs(
                model=model,
                revision=revision,
                tokenizer_revision=revision,
                tensor_parallel_size=settings.tensor_parallel,
                pipeline_parallel_size=settings.pipeline_parallel,
                enable_prefix_caching=settings.prefix_caching,
                enable_log_requests=False,
                trust_remote_code=settings.trust_remote_code,
                **{**platform, **settings.engine_args},
            )
        except (TypeError, ValueError) as error:
            raise SettingError(
                "--engine-args", expected="arguments that vLLM knows", found=str(error), fix="see: vllm serve --help"
            ) from error
        try:
            # The usage context decides the default batch size; LLM_CLASS is the one of vLLM's own batch jobs.
            self.llm = AsyncLLM.from_engine_args(arguments, usage_context=UsageContext.LLM_CLASS)
        except (OSError, RuntimeError, ValueError) as error:
            raise TeacherError(
                model, expected="an engine that starts", found=str(error), fix="read vLLM's log above"
            ) from error
        # The processes of the engine and its workers. They must be killed even if they no longer respond.
        self._processes = [child for child in mine.children(recursive=True) if child.pid not in before]

    @property
    def errored(self) -> bool:
        return self.llm.errored

    def close(self) -> None:
        self.llm.shutdown(timeout=10)
        self._kill_processes()

    def kill(self) -> None:
        self._kill_processes()
        self.llm.shutdown()

    def _kill_processes(self) -> None:
        import psutil

        for process in self._processes:
            with suppress(psutil.NoSuchProcess):
                # A stopped process reacts to SIGKILL only. psutil checks that the pid still belongs to the same
                # process.
                process.send_signal(signal.SIGKILL)
        psutil.wait_procs(self._processes, timeout=10)


class VllmSidecar:
    """Runs requests with vLLM in this process; a ``job.Engine``. Create it with ``start``."""

    def __init__(self, teacher: Teacher, settings: VllmSettings, tokenizer: TeacherTokenizer) -> None:
        self._teacher = teacher
        self._settings = settings
        self._tokenizer = tokenizer
        self._watchdog: Watchdog[_Engine] = Watchdog(
            self._start_engine, stall_seconds=settings.stall_seconds, max_restarts=settings.max_restarts
        )
        self._number = 0
        self._max_length = 0
        self._parameters: dict[str, Any] = {}
        self.devices = 0
        self.in_flight = 0

    @classmethod
    async def start(cls, teacher: Teacher, settings: VllmSettings, tokenizer: TeacherTokenizer) -> VllmSidecar:
        """Starts the engine and its watchdog.

        Raises:
          TeacherError: vLLM is not installed, or does not start.
          SettingError: vLLM does not know an argument or a sampling setting.
        """
        require_vllm()
        sidecar = cls(teacher, settings, tokenizer)
        sidecar._parameters = _sampling_parameters(teacher.sampling)
        await sidecar._watchdog.open()
        return sidecar

    async def _start_engine(self) -> _Engine:
        from vllm.platforms import current_platform

        local = Path(self._teacher.name).is_dir()
        engine = _Engine(self._teacher.name, None if local else self._teacher.revision, self._settings)
        self._max_length = engine.llm.model_config.max_model_len
        # Twice the batch size, so that new requests are waiting when many end at the same time.
        self.in_flight = 2 * engine.llm.vllm_config.scheduler_config.max_num_seqs
        used = self._settings.tensor_parallel * self._settings.pipeline_parallel
        self.devices = 0 if current_platform.is_cpu() else used
        return engine

    @property
    def restarts(self) -> int:
        return self._watchdog.restarts

    async def close(self) -> None:
        await self._watchdog.close()

    def stop(self) -> None:
        """Does nothing: all requests of the engine are under way already."""

    async def ask(self, request: Request) -> Answer:
        """Answers one request; if the engine hangs or dies, with a new engine.

        Raises:
          TeacherError: no new engine can be started.
        """
        tokens = self._tokenizer.prompt_tokens(request)
        if len(tokens) + self._teacher.sampling.max_tokens > self._max_length:
            return failed(
                TOO_LONG,
                f"{len(tokens)} input and {self._teacher.sampling.max_tokens} output tokens, "
                f"the model's limit is {self._max_length} together",
                len(tokens),
            )
        try:
            return await self._watchdog.run(lambda engine: self._generate(engine, request, tokens))
        except LostRequestError as error:
            return failed(ENGINE_ERROR, str(error), len(tokens))

    async def _generate(self, engine: _Engine, request: Request, tokens: list[int]) -> Answer:
        from vllm import SamplingParams, TokensPrompt
        from vllm.exceptions import VLLMClientError
        from vllm.sampling_params import RequestOutputKind
        from vllm.v1.engine.exceptions import EngineGenerateError

        parameters = SamplingParams(
            **self._parameters, seed=request.engine_seed, output_kind=RequestOutputKind.FINAL_ONLY
        )
        self._number += 1
        last = None
        try:
            prompt = TokensPrompt(prompt_token_ids=tokens)
            async for output in engine.llm.generate(prompt, parameters, str(self._number)):
                last = output
        except (VLLMClientError, EngineGenerateError, ValueError) as error:
            return failed(ENGINE_ERROR, f"{type(error).__name__}: {error.__cause__ or error}", len(tokens))
        if last is None:
            return failed(ENGINE_ERROR, "the engine ended without an output", len(tokens))
        text = last.outputs[0]
        return judge(
            clean_text(text.text)[0],
            text.finish_reason,
            len(tokens),
            len(text.token_ids),
            self._teacher.sampling.max_tokens,
        )


def require_vllm() -> None:
    """Raises:
    TeacherError: vLLM is not installed here.
    """
    from importlib.util import find_spec

    if find_spec("vllm") is None:
        raise TeacherError(
            "--engine vllm",
            expected="vLLM in this environment",
            found="none",
            fix="if a server has the teacher, give --endpoint URL; or install vLLM: requirements-teacher.txt",
        )


def _sampling_parameters(sampling: SamplingSettings) -> dict[str, Any]:
    from vllm import SamplingParams

    extra = {name: value for name, value in sampling.extra.items() if name != TEMPLATE_ARGUMENTS}
    parameters = {
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "max_tokens": sampling.max_tokens,
        **extra,
    }
    try:
        SamplingParams(**parameters)
    except (TypeError, ValueError) as error:
        raise SettingError(
            "--sampling-extra", expected="settings that vLLM knows", found=str(error), fix="see vLLM's SamplingParams"
        ) from error
    return parameters


def _refuse_pickles(folder: Path) -> None:
    # If there are no other weights, vLLM would load pickles, with PyTorch's restricted unpickler.
    pickles = [path.name for pattern in ("*.bin", "*.pt", "*.pth", "*.pkl") for path in folder.glob(pattern)]
    if pickles and not any(folder.glob("*.safetensors")):
        raise TeacherError(
            folder,
            expected="weights in safetensors",
            found=f"pickles, which can run code: {', '.join(sorted(pickles)[:3])}",
            fix="convert them, or take a revision of the model that has safetensors",
        )


def resolve_revision(model: str, revision: str | None) -> str | None:
    """A permanent name of the weights: the commit of a model on the Hub, or a fingerprint of a local folder.

    The fingerprint covers the name and size of every file, all of a small file, and the first and last megabyte of a
    large one.

    Raises:
      TeacherError: there is no such model, or its folder has only pickled weights.
    """
    folder = Path(model)
    if folder.is_dir():
        _refuse_pickles(folder)
        digest = hashlib.sha256()
        for path in sorted(path for path in folder.iterdir() if path.is_file()):
            size = path.stat().st_size
            digest.update(f"{path.name}\0{size}\0".encode())
            with path.open("rb") as file:
                digest.update(file.read(_EDGE_BYTES))
                if size > _EDGE_BYTES:
                    file.seek(max(_EDGE_BYTES, size - _EDGE_BYTES), os.SEEK_SET)
                    digest.update(file.read())
        return "local-" + digest.hexdigest()[:24]
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        config = hf_hub_download(model, "config.json", revision=revision)
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        raise TeacherError(
            model,
            expected="a folder with a model, or a model on the Hugging Face Hub",
            found=str(error),
            fix="check the name and --teacher-revision, or log in with: hf auth login; if a server has the teacher, "
            "give --endpoint URL",
        ) from error
    # …/snapshots/<commit>/config.json
    return Path(config).parent.name
