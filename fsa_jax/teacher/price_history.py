"""The prices that a store's requests were paid with.

Each shard has a file ``prices.jsonl`` with a line for every change of a teacher's prices: a number for tokens and
accelerators, without a currency, and the time. A request costs what the last line before its answer says. Requests
before the first line cost what the first line says: they were sent before the prices were given.
"""

from __future__ import annotations

import time
from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from fsa_base.disk import replacing
from fsa_jax.teacher.cost import Prices, Pricing
from fsa_jax.teacher.store.errors import StoreError, reading, storing
from fsa_jax.teacher.store.shard_files import shard_folders

FILE = "prices.jsonl"


class PriceRecord(BaseModel):
    """One line of the file: the prices of a teacher from a time on. The names of the prices are those of Prices."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    teacher: str
    since: AwareDatetime
    input: float = Field(ge=0, allow_inf_nan=False)
    output: float = Field(ge=0, allow_inf_nan=False)
    device_hour: float = Field(ge=0, allow_inf_nan=False)

    @property
    def prices(self) -> Prices:
        return Prices(self.input, self.output, self.device_hour)

    @property
    def day(self) -> str:
        """The time as text, to the minute."""
        return f"{self.since.astimezone(UTC):%Y-%m-%d %H:%M} UTC"


class PriceHistory:
    """The prices in a store, at this moment.

    Args:
      root: folder of the store; it may not exist yet.

    Raises:
      StoreError: a file of prices cannot be read or is damaged.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._shards = {folder.name: _read(folder / FILE) for folder in shard_folders(root)}

    def records(self, teacher: str, shard: str | None = None) -> list[PriceRecord]:
        """The prices of a teacher, oldest first: those of one shard, or those of all if that shard has none."""
        own = [record for record in self._shards.get(shard or "", ()) if record.teacher == teacher]
        every = own or [record for records in self._shards.values() for record in records if record.teacher == teacher]
        return sorted(every, key=lambda record: record.since)

    def pricing(self, shard: str) -> Pricing:
        """The prices of the requests of one shard."""
        known: dict[str, tuple[list[float], list[Prices]]] = {}

        def prices(teacher: str, at: float) -> Prices | None:
            if teacher not in known:
                records = self.records(teacher, shard)
                known[teacher] = [record.since.timestamp() for record in records], [record.prices for record in records]
            times, values = known[teacher]
            return values[max(0, bisect_right(times, at) - 1)] if values else None

        return prices

    def settle(self, teacher: str, given: Mapping[str, float], shard: str) -> tuple[Prices | None, str | None]:
        """The prices of a run: those that are given, and otherwise the last ones of the store.

        Args:
          teacher: name of the teacher.
          given: given prices, by the name of the attribute of Prices.
          shard: name of the shard's folder.

        Returns:
          The prices, None if neither the user nor the store has any; and a line that says if they come from the store
          or have changed, None if there is nothing to say.
        """
        last = next(reversed(self.records(teacher, shard)), None)
        if last is None:
            return (Prices(**given) if given else None), None
        now = replace(last.prices, **given)
        if now == last.prices:
            return now, None if given else f"prices from the store: {now} (since {last.day})"
        return now, f"prices have changed: {now}; requests before now keep those since {last.day}: {last.prices}"

    def add(self, teacher: str, prices: Prices, shard: str) -> None:
        """Stores prices from now on, unless they are the last ones of this shard. The shard must be locked.

        Raises:
          StoreError: the file cannot be written.
        """
        records = self._shards.setdefault(shard, [])
        own = [record for record in records if record.teacher == teacher]
        if own and max(own, key=lambda record: record.since).prices == prices:
            return
        since = datetime.fromtimestamp(time.time(), UTC)
        records.append(
            PriceRecord(
                teacher=teacher,
                since=since,
                input=prices.input,
                output=prices.output,
                device_hour=prices.device_hour,
            )
        )
        path = self._root / shard / FILE
        with storing(path), replacing(path, durable=True) as partial:
            partial.write_text("".join(f"{record.model_dump_json()}\n" for record in records), encoding="utf-8")


def _read(path: Path) -> list[PriceRecord]:
    if not path.exists():
        return []
    with reading(path):
        lines = path.read_bytes().splitlines()
    records = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue  # left by a user who deleted a line
        try:
            records.append(PriceRecord.model_validate_json(line))
        except ValidationError as error:
            (first, *_) = error.errors()
            raise StoreError(
                f"{path}:{number}",
                expected="a teacher, since when, and its prices",
                found=f"{first['msg']} ({'.'.join(map(str, first['loc'])) or 'the line'})",
                fix="correct or delete the line; requests of a teacher without any line have no cost",
            ) from error
    return records
