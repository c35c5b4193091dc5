"""The watchdog with engines that hang, die or cannot be started: small fakes, since vLLM takes a minute to start."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from fsa_base.errors import TeacherError
from fsa_jax.teacher.watchdog import LostRequestError, Watchdog


class Engine:
    """Answers a number with its double, and hangs or dies at the given number."""

    def __init__(self, hangs_at: int | None = None, dies_at: int | None = None) -> None:
        self.errored = False
        self.gone = asyncio.Event()
        self._hangs_at, self._dies_at = hangs_at, dies_at
        self._hung = False

    async def double(self, number: int) -> int:
        await asyncio.sleep(0.001)
        if number == self._dies_at:
            self.errored = True
        self._hung = self._hung or number == self._hangs_at
        if self._hung:
            await asyncio.Event().wait()
        if self.errored:
            raise RuntimeError("dead")
        return 2 * number

    def close(self) -> None:
        self.gone.set()

    def kill(self) -> None:
        self.gone.set()


def watchdog(engines: list[Engine], max_restarts: int = 2) -> Watchdog[Engine]:
    waiting = iter(engines)

    async def start() -> Engine:
        return next(waiting)

    return Watchdog(start, stall_seconds=0.1, max_restarts=max_restarts)


def asking(number: int) -> Callable[[Engine], Awaitable[int]]:
    return lambda engine: engine.double(number)


@pytest.mark.parametrize("fault", [{"hangs_at": 7}, {"dies_at": 7}])
def test_requests_under_way_are_repeated_on_a_new_engine(fault: dict[str, int]):
    async def job() -> None:
        engines = [Engine(**fault), Engine()]
        dog = watchdog(engines)
        await dog.open()
        answers = await asyncio.gather(*(dog.run(asking(number)) for number in range(20)))
        await dog.close()
        assert answers == [2 * number for number in range(20)]
        assert dog.restarts == 1 and all(engine.gone.is_set() for engine in engines)

    asyncio.run(job())


def test_an_idle_engine_does_not_hang():
    async def job() -> None:
        dog = watchdog([Engine()])
        await dog.open()
        await asyncio.sleep(0.4)
        assert await dog.run(asking(1)) == 2
        assert dog.restarts == 0
        await dog.close()

    asyncio.run(job())


def test_an_engine_that_never_answers_is_given_up():
    async def job() -> None:
        dog = watchdog([Engine(hangs_at=1) for _ in range(3)])
        await dog.open()
        with pytest.raises(TeacherError, match="after 2 restarts"):
            await dog.run(asking(1))
        with pytest.raises(TeacherError):
            await dog.run(asking(2))
        await dog.close()

    asyncio.run(job())


def test_an_engine_that_does_not_start_again_is_given_up():
    async def job() -> None:
        dog = watchdog([Engine(dies_at=1)])  # there is no second engine
        await dog.open()
        with pytest.raises(TeacherError, match="does not start"):
            await dog.run(asking(1))
        await dog.close()

    asyncio.run(job())


def test_a_request_that_kills_engines_fails_alone():
    async def job() -> None:
        dog = watchdog([Engine(dies_at=13) for _ in range(9)], max_restarts=3)
        await dog.open()

        async def steady() -> None:
            for _ in range(300):  # other requests are answered meanwhile, so the engines work
                assert await dog.run(asking(1)) == 2

        others = asyncio.create_task(steady())
        with pytest.raises(LostRequestError):
            await dog.run(asking(13))
        await others
        await dog.close()

    asyncio.run(job())


def test_the_requests_own_errors_are_passed_on():
    async def refuse(engine: Engine) -> int:
        raise ValueError("no such thing")

    async def job() -> None:
        dog = watchdog([Engine()])
        await dog.open()
        with pytest.raises(ValueError, match="no such thing"):
            await dog.run(refuse)
        assert dog.restarts == 0
        await dog.close()

    asyncio.run(job())


def test_a_cancelled_job_stays_cancelled():
    async def job() -> None:
        dog = watchdog([Engine(hangs_at=1)])
        await dog.open()
        task = asyncio.create_task(dog.run(asking(1)))
        await asyncio.sleep(0.02)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await dog.close()

    asyncio.run(job())
