"""Reviews and stored rows for the teacher's tests."""

from __future__ import annotations

from fsa_jax.common.records import Review
from fsa_jax.teacher.generation_requests import Request, SamplingSettings
from fsa_jax.teacher.store.parts import StoredGeneration

MODEL = "test-teacher"


def reviews(count: int) -> list[Review]:
    return [Review(id=f"r{i}", text=f"Visit {i}: lovely soup, slow waiter.", stars=3) for i in range(count)]


def row(request: Request, failure: str | None = None, **columns: object) -> StoredGeneration:
    """The row that the store would contain for an answered or failed request."""
    values: dict[str, object] = {
        "key": request.key,
        "review_id": request.review_id,
        "understanding": request.prompt.understanding,
        "prompt": request.prompt.name,
        "prompt_hash": request.prompt.hash,
        "teacher": MODEL,
        "teacher_revision": None,
        "sampling": SamplingSettings().canonical,
        "seed": 0,
        "sample": request.sample,
        "attempt": request.attempt,
        "text": None if failure else f"answer about {request.review_id}",
        "failure": failure,
        "input_tokens": 100,
        "output_tokens": 50,
        "finished": 1000.0,
        "seconds": 1.0,
        "devices": 0,
    }
    return StoredGeneration(**{**values, **columns})  # pyright: ignore[reportArgumentType]
