"""Compares the throughput of the sidecar with vLLM called directly with the same requests, in alternating pairs.

    .venv-teacher/bin/python benchmarks/teacher_sidecar.py --model FOLDER --directory /tmp/overhead

The model is created by tests/teacher/tiny_teacher.py. Both sides use the same engine. "direct" passes the text of all
prompts, rendered before, to ``AsyncLLM.generate`` and waits. "sidecar" is the whole job, from reviews and templates to
the store. In "direct" vLLM tokenizes the text, in "sidecar" the sidecar does. CPU time is that of this process, without
the engine.
"""

# vLLM is installed only in the teacher's environment.
# pyright: reportMissingImports=false

from __future__ import annotations

import argparse
import asyncio
import shutil
import statistics
import time
from pathlib import Path

from fsa_jax.common.records import Review
from fsa_jax.teacher.chat_template import TeacherTokenizer
from fsa_jax.teacher.cost import Budget, Prices
from fsa_jax.teacher.generation_requests import RequestMaker, SamplingSettings, Teacher, load_prompt
from fsa_jax.teacher.job import Job, JobSettings, Outcome, missing_requests, requests_about
from fsa_jax.teacher.store.shard_files import Shard
from fsa_jax.teacher.store.writer import ShardWriter
from fsa_jax.teacher.vllm_sidecar import VllmSettings, VllmSidecar, resolve_revision

ENGINE = {"max_model_len": 2048, "dtype": "float32", "enforce_eager": True}


def reviews(count: int) -> list[Review]:
    return [
        Review(id=f"r{i}", text=f"Visit {i}: the soup was lovely, but we waited {i % 90} minutes.")
        for i in range(count)
    ]


class KeptOpen:
    """The sidecar as an engine that several jobs can use one after the other."""

    def __init__(self, sidecar: VllmSidecar) -> None:
        self.devices = 0
        self.in_flight = sidecar.in_flight
        self.ask = sidecar.ask
        self.stop = sidecar.stop

    async def close(self) -> None:
        pass


async def direct(
    sidecar: VllmSidecar, tokenizer: TeacherTokenizer, maker: RequestMaker, count: int, salt: int
) -> float:
    """Seconds for all requests, passed directly to vLLM."""
    from vllm import SamplingParams, TextPrompt
    from vllm.sampling_params import RequestOutputKind

    engine = sidecar._watchdog._engine
    assert engine is not None
    sampling = maker.teacher.sampling
    requests = [request for review in reviews(count) for request in maker.requests(review)]
    prompts = [TextPrompt(prompt=tokenizer.prompt_text(request)) for request in requests]

    async def one(number: int) -> None:
        parameters = SamplingParams(
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            max_tokens=sampling.max_tokens,
            seed=requests[number].engine_seed,
            output_kind=RequestOutputKind.FINAL_ONLY,
            **sampling.extra,
        )
        template = {"add_special_tokens": False}  # the chat template has added them
        name = f"direct-{salt}-{number}"
        async for _ in engine.llm.generate(prompts[number], parameters, name, tokenization_kwargs=template):
            pass

    began = time.monotonic()
    await asyncio.gather(*(one(number) for number in range(len(requests))))
    return time.monotonic() - began


async def through_sidecar(sidecar: VllmSidecar, maker: RequestMaker, count: int, store: Path) -> float:
    """Seconds for the whole job."""
    began = time.monotonic()
    with ShardWriter(store) as writer:
        outcome = Outcome()
        job = Job(KeptOpen(sidecar), maker.teacher, writer, Budget(Prices()), JobSettings(), outcome=outcome)
        await job.run(missing_requests(requests_about(reviews(count), maker, Shard()), writer, outcome))
    assert outcome.stored == count, outcome
    return time.monotonic() - began


async def main(options: argparse.Namespace) -> None:
    model = str(options.model)
    # With ignore_eos every answer has max_tokens tokens, on both sides.
    sampling = SamplingSettings(max_tokens=options.tokens, extra={"ignore_eos": True})
    maker = RequestMaker(Teacher(model, resolve_revision(model, None), sampling), [load_prompt("analysis")])
    tokenizer = TeacherTokenizer(model)
    sidecar = await VllmSidecar.start(maker.teacher, VllmSettings(engine_args=ENGINE), tokenizer)
    figures = []
    try:
        await direct(sidecar, tokenizer, maker, options.requests, salt=-1)  # warms up, and fills the prefix cache
        for pair in range(options.pairs):
            store = options.directory / f"store-{pair}"
            shutil.rmtree(store, ignore_errors=True)
            sides = [
                lambda pair=pair: direct(sidecar, tokenizer, maker, options.requests, pair),
                lambda store=store: through_sidecar(sidecar, maker, options.requests, store),
            ]
            order = [0, 1] if pair % 2 == 0 else [1, 0]
            seconds, cpu = [0.0, 0.0], [0.0, 0.0]
            for side in order:
                before = time.process_time()
                seconds[side] = await sides[side]()
                cpu[side] = time.process_time() - before
            figures.append(seconds)
            print(
                f"direct {seconds[0]:.2f} s ({cpu[0]:.2f} s of CPU time), sidecar {seconds[1]:.2f} s ({cpu[1]:.2f} s): "
                f"throughput {seconds[0] / seconds[1]:.3f}",
                flush=True,
            )
    finally:
        await sidecar.close()
    ratios = [one / other for one, other in figures]
    print(
        f"{options.requests} requests of {options.tokens} tokens, {options.pairs} pairs: throughput of the sidecar / "
        f"direct: median {statistics.median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f}), "
        f"total {sum(pair[0] for pair in figures) / sum(pair[1] for pair in figures):.3f}"
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--directory", type=Path, required=True)
    parser.add_argument("--requests", type=int, default=1024)
    parser.add_argument("--tokens", type=int, default=256)
    parser.add_argument("--pairs", type=int, default=4)
    asyncio.run(main(parser.parse_args()))
