"""The cost of a teaching job: prices, a budget that is never exceeded, and the bill of what was generated."""

from __future__ import annotations

import asyncio
import hashlib
import math
import time
from collections import Counter
from collections.abc import Callable, Hashable, Iterable
from dataclasses import asdict, dataclass, field
from itertools import repeat

import numpy as np

from fsa_base.errors import SettingError
from fsa_jax.teacher.answers import failure_reason
from fsa_jax.teacher.store.key_set import KEY_BYTES, KeySet, as_keys
from fsa_jax.teacher.store.parts import StoredGeneration


@dataclass(frozen=True)
class Prices:
    """Prices, all in the same currency; 0 for what is free.

    Args:
      input: price of a million input tokens.
      output: price of a million output tokens.
      device_hour: price of one accelerator for one hour.
    """

    input: float = 0.0
    output: float = 0.0
    device_hour: float = 0.0

    def __post_init__(self) -> None:
        for name, price in asdict(self).items():
            if not (math.isfinite(price) and price >= 0):
                raise SettingError(
                    f"--price-{name.replace('_', '-')}",
                    expected="a price of at least 0",
                    found=str(price),
                    fix="write the price without a currency, such as 0.15",
                )

    def __str__(self) -> str:
        units = {
            "input": "per million input tokens",
            "output": "per million output tokens",
            "device_hour": "per GPU-hour",
        }
        return ", ".join(f"{price:g} {units[name]}" for name, price in asdict(self).items() if price) or "free"

    def tokens(self, input_tokens: float, output_tokens: float) -> float:
        return (input_tokens * self.input + output_tokens * self.output) / 1e6

    def devices(self, device_seconds: float) -> float:
        return device_seconds / 3600 * self.device_hour


def amount(cost: float) -> str:
    """A cost with two decimals, or with more if it is small."""
    return f"{cost:,.{2 if cost == 0 or abs(cost) >= 0.1 else 4 if abs(cost) >= 0.001 else 6}f}"


class Budget:
    """Lets a request start only if its largest possible use still fits into the budget.

    A request reserves its estimated input and its longest possible output, and returns afterwards what it did not use.
    A request that does not fit waits until others end. If no running request is left that could return anything, the
    budget is used up.

    Args:
      prices: prices of tokens and accelerators; None if they are unknown.
      max_tokens: limit on input and output tokens together; None for no limit.
      max_cost: limit on the cost; None for no limit.
      spent_tokens: number of tokens that earlier runs spent.
      spent_cost: cost of earlier runs.
      devices: number of accelerators that cost money while this object exists.
    """

    def __init__(
        self,
        prices: Prices | None,
        max_tokens: float | None = None,
        max_cost: float | None = None,
        spent_tokens: float = 0.0,
        spent_cost: float = 0.0,
        devices: int = 0,
    ) -> None:
        self._known = prices is not None
        self._prices = prices or Prices()
        self._max_tokens = max_tokens
        self.max_cost = max_cost
        self.tokens = spent_tokens
        self._token_cost = self._earlier_cost = spent_cost
        self._devices = devices
        self._began = time.monotonic()
        self._reserved_tokens = 0.0
        self._reserved_cost = 0.0
        self._reservations = 0
        self._settled = asyncio.Condition()
        self.used_up: str | None = None
        """The limit that ended the job; None until then."""

    @property
    def cost(self) -> float:
        """The cost until now, accelerators and earlier runs included."""
        return self._token_cost + self._prices.devices((time.monotonic() - self._began) * self._devices)

    @property
    def cost_now(self) -> float | None:
        """The cost of this run; None if the prices are unknown."""
        return self.cost - self._earlier_cost if self._known else None

    def _limit_hit(self, tokens: float, cost: float) -> str | None:
        if self._max_tokens is not None and self.tokens + self._reserved_tokens + tokens > self._max_tokens:
            return f"{self._max_tokens:,.0f} tokens"
        if self.max_cost is not None and self.cost + self._reserved_cost + cost > self.max_cost:
            return f"a cost of {amount(self.max_cost)}"
        return None

    async def reserve(self, input_tokens: int, output_tokens: int) -> bool:
        """Whether a request of at most this size may start. Waits as long as requests under way may still free
        budget."""
        tokens, cost = input_tokens + output_tokens, self._prices.tokens(input_tokens, output_tokens)
        async with self._settled:
            while (hit := self._limit_hit(tokens, cost)) is not None and self._reservations and not self.used_up:
                await self._settled.wait()
            if hit or self.used_up:
                self.used_up = self.used_up or hit
                self._settled.notify_all()
                return False
            self._reserved_tokens += tokens
            self._reserved_cost += cost
            self._reservations += 1
            return True

    async def settle(self, reserved: tuple[int, int], used: tuple[int, int]) -> None:
        """Replaces a reservation (input tokens, output tokens) by the tokens that were used."""
        async with self._settled:
            self._reserved_tokens -= sum(reserved)
            self._reserved_cost -= self._prices.tokens(*reserved)
            self._reservations -= 1
            self.tokens += sum(used)
            self._token_cost += self._prices.tokens(*used)
            self._settled.notify_all()


class ReviewSet:
    """Counts the different reviews of stored rows, with hashes of 16 bytes.

    Different reviews may have the same id, and the store has no texts of reviews. But a request's key depends on the
    text, so keys of requests with the same settings (such as the seed) tell them apart. Between requests with
    different settings, only ids are compared.
    """

    def __init__(self, buffer: int = 4096) -> None:
        self._buffer = buffer
        self._new: dict[Hashable, list[bytes]] = {}
        self._keys: dict[Hashable, KeySet] = {}

    def __len__(self) -> int:
        """The number of ids, or of keys with the same settings if it is higher."""
        self._merge()
        return max(map(len, self._keys.values()), default=0)

    def add(self, row: StoredGeneration) -> None:
        """Adds the review of a row."""
        hashed = hashlib.blake2b(row.review_id.encode("utf-8", "surrogatepass"), digest_size=KEY_BYTES).digest()
        self._add("id", hashed)
        if row.sample == 0:
            self._add((row.teacher_revision, row.sampling, row.seed, row.prompt_hash), row.key)

    def update(self, other: ReviewSet) -> None:
        """Adds all reviews of another set."""
        other._merge()
        for settings, keys in other._keys.items():
            self._keys.setdefault(settings, KeySet()).update(keys)

    def _add(self, settings: Hashable, key: bytes) -> None:
        new = self._new.setdefault(settings, [])
        new.append(key)
        if len(new) >= self._buffer:
            self._merge()

    def _merge(self) -> None:
        for settings, new in self._new.items():
            self._keys.setdefault(settings, KeySet()).add_new(as_keys(new))
        self._new.clear()


@dataclass
class Bill:
    """Tokens, time, cost and failures of the generations of one teacher and prompt.

    Attributes:
      requests: number of attempts that were stored, failures included.
      seconds: wall time with a request under way, summed over shards, divided among prompts by their output tokens.
      device_seconds: ``seconds`` times the number of accelerators of the engine.
      cost: cost of the requests whose prices are known.
      unpriced: number of requests whose prices are not known.
      failures: number of failures by reason.
      reviews: the reviews that the requests were about.
    """

    requests: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    seconds: float = 0.0
    device_seconds: float = 0.0
    cost: float = 0.0
    unpriced: int = 0
    failures: Counter[str] = field(default_factory=Counter)
    reviews: ReviewSet = field(default_factory=ReviewSet)

    @property
    def tokens_per_second(self) -> float | None:
        """Output tokens per second of one shard; None if nothing was generated."""
        return self.output_tokens / self.seconds if self.seconds and self.output_tokens else None

    @property
    def answers(self) -> int:
        return self.requests - self.failures.total()

    def charge(self, prices: Prices | None) -> None:
        """Computes the cost of all requests of this bill."""
        if prices is None:
            self.cost, self.unpriced = 0.0, self.requests
        else:
            self.cost = prices.tokens(self.input_tokens, self.output_tokens) + prices.devices(self.device_seconds)
            self.unpriced = 0

    def add(self, other: Bill) -> None:
        for name in ("requests", "input_tokens", "output_tokens", "seconds", "device_seconds", "cost", "unpriced"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.failures += other.failures
        self.reviews.update(other.reviews)


Bills = dict[tuple[str, str], Bill]
"""Bill by teacher (with its revision, if it has one) and prompt."""

Pricing = Callable[[str, float], Prices | None]
"""The prices of a teacher (without its revision) at a time in seconds since 1970; None if they are not known."""


def unpriced(teacher: str, time: float) -> None:
    """The Pricing of a store without prices."""


def bills(shards: Iterable[Iterable[StoredGeneration]], pricings: Iterable[Pricing] = repeat(unpriced)) -> Bills:
    """The bills of all requests ever sent, failures and retried attempts included.

    Wall time is computed from the rows, so that the work of killed jobs is counted and the idle time between jobs is
    not. Memory grows by 32 bytes for each review and prompt, and by 16 more if it was asked about with other settings.

    Args:
      shards: the rows of each shard. Shards are separate engines, so their times are added.
      pricings: the prices of each shard.
    """
    result: Bills = {}
    for rows, pricing in zip(shards, pricings, strict=False):
        for group, bill in _shard_bills(rows, pricing).items():
            result.setdefault(group, Bill()).add(bill)
    return result


def _shard_bills(rows: Iterable[StoredGeneration], pricing: Pricing) -> Bills:
    # Requests with different prices have separate bills first, because the time of accelerators has a price too.
    priced: dict[tuple[str, str, Prices | None], Bill] = {}
    spans: dict[tuple[str, Prices | None], _Spans] = {}
    devices: Counter[tuple[str, Prices | None]] = Counter()
    for row in rows:
        teacher = row.teacher if row.teacher_revision is None else f"{row.teacher}@{row.teacher_revision[:12]}"
        prices = pricing(row.teacher, row.finished)
        bill = priced.setdefault((teacher, row.prompt, prices), Bill())
        bill.requests += 1
        bill.input_tokens += row.input_tokens or 0
        bill.output_tokens += row.output_tokens or 0
        bill.reviews.add(row)
        if row.failure is not None:
            bill.failures[failure_reason(row.failure)] += 1
        devices[teacher, prices] = max(devices[teacher, prices], row.devices)
        spans.setdefault((teacher, prices), _Spans()).add(row.finished - row.seconds, row.finished)
    for (teacher, prices), times in spans.items():
        seconds = times.total()
        own = [bill for (name, _, its), bill in priced.items() if (name, its) == (teacher, prices)]
        tokens = sum(bill.output_tokens for bill in own)
        for bill in own:
            bill.seconds = seconds * (bill.output_tokens / tokens if tokens else 1 / len(own))
            bill.device_seconds = bill.seconds * devices[teacher, prices]
            bill.charge(prices)
    result: Bills = {}
    for (teacher, prompt, _), bill in priced.items():
        result.setdefault((teacher, prompt), Bill()).add(bill)
    return result


class _Spans:
    """Length of the union of time spans, computed with constant memory."""

    def __init__(self, buffer: int = 100_000) -> None:
        self._buffer = buffer
        self._merged = np.empty((0, 2))
        self._new: list[tuple[float, float]] = []

    def add(self, start: float, end: float) -> None:
        self._new.append((start, end))
        if len(self._new) >= self._buffer:
            self._merge()

    def _merge(self) -> None:
        spans = np.concatenate([self._merged, np.array(self._new).reshape(-1, 2)])
        self._new.clear()
        if not len(spans):
            return
        spans = spans[np.argsort(spans[:, 0], kind="stable")]
        reach = np.maximum.accumulate(spans[:, 1])
        begins = np.concatenate([[True], spans[1:, 0] > reach[:-1]])
        last = np.concatenate([np.flatnonzero(begins)[1:] - 1, [len(spans) - 1]])
        self._merged = np.stack([spans[begins, 0], reach[last]], axis=1)

    def total(self) -> float:
        self._merge()
        return float((self._merged[:, 1] - self._merged[:, 0]).sum())
