"""Prices in the store: what later commands use, what requests cost, and the limit on the cost."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from server_process import ServerProcess
from stored_rows import MODEL, reviews, row

from fsa_base.errors import SettingError
from fsa_jax.cli.main import main
from fsa_jax.teacher.cost import Prices, bills
from fsa_jax.teacher.generation_requests import RequestMaker
from fsa_jax.teacher.price_history import FILE, PriceHistory
from fsa_jax.teacher.store.reader import StoreReader
from fsa_jax.teacher.store.shard_files import Shard

Serve = Callable[..., ServerProcess]
SHARD = Shard().folder


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "reviews.jsonl"
    path.write_text("\n".join(review.model_dump_json() for review in reviews(30)))
    return path


def teach(source: Path, store: Path, server: ServerProcess, *options: str) -> int:
    common = ["--endpoint", server.url, "--prompts", '["analysis"]', "--in-flight", "4"]
    return main(["teach", str(source), str(store), MODEL, *common, *options])


def output_tokens(store: Path) -> int:
    return sum(row.output_tokens or 0 for row in StoreReader(store))


def test_each_request_keeps_the_price_at_which_it_was_sent(source: Path, tmp_path: Path, serve: Serve, capsys):
    server, store = serve(), tmp_path / "store"
    assert teach(source, store, server, "--limit", "5") == 0
    printed = capsys.readouterr().out
    assert f"no prices of {MODEL} are stored" in printed and " - │" in printed
    assert teach(source, store, server, "--limit", "10", "--price-output", "1000") == 0
    first = output_tokens(store)
    capsys.readouterr()
    assert teach(source, store, server, "--limit", "20") == 0
    assert "prices from the store: 1000 per million output tokens" in capsys.readouterr().err
    second = output_tokens(store)
    assert teach(source, store, server, "--price-output", "3000") == 0
    assert "prices have changed: 3000 per million output tokens; requests before now keep" in capsys.readouterr().err
    third = output_tokens(store)
    assert 0 < first < second < third
    assert main(["teach-report", str(store)]) == 0
    report = capsys.readouterr().out
    cost = (second * 1000 + (third - second) * 3000) / 1e6
    assert f" {cost:.2f} │ {cost / 30 * 1000:.2f} " in " ".join(report.split())
    for price in ("1000", "3000"):
        assert f"UTC: {price} per million output tokens" in report
    records = [json.loads(line) for line in (store / SHARD / FILE).read_text().splitlines()]
    assert [record["output"] for record in records] == [1000, 3000] and len(records) == 2
    # Prices on the command line hold for all requests.
    assert main(["teach-report", str(store), "--price-output", "10"]) == 0
    report = capsys.readouterr().out
    assert f" {third / 1e5:.4f} │" in report and "from the command line, for all requests: 10 per million" in report


def test_max_cost_works_with_the_prices_of_the_store(source: Path, tmp_path: Path, serve: Serve, capsys):
    server, store = serve(), tmp_path / "store"
    assert teach(source, store, server, "--max-cost", "1") == 2
    assert "--max-cost: expected prices, given or in the store, found none" in capsys.readouterr().err
    assert teach(source, store, server, "--limit", "2", "--price-output", "1000") == 0
    expensive = output_tokens(store) / 1000
    # Later the price is a tenth: what was spent before still counts in full.
    assert teach(source, store, server, "--limit", "3", "--price-output", "100") == 0
    limit = expensive + 0.2
    assert teach(source, store, server, "--max-cost", str(limit), "--max-tokens", "1000") == 1
    asked = server.counts()["requests"]
    # Other sampling settings are other requests of the same teacher: 1,000 tokens at most, which cost 0.1.
    spent = expensive + (output_tokens(store) - expensive * 1000) / 1e4
    assert limit - 0.11 < spent <= limit and 3 < asked < 25
    assert teach(source, store, server, "--max-cost", str(limit), "--max-tokens", "1000") == 1
    assert server.counts()["requests"] == asked
    assert "the budget is used up: a cost of" in capsys.readouterr().out
    assert teach(source, store, server, "--max-cost", "0.0001") == 1
    assert "the budget is used up: a cost of 0.000100" in capsys.readouterr().out


def test_prices_are_settled_from_those_given_and_those_stored(tmp_path: Path):
    (tmp_path / SHARD).mkdir()
    history = PriceHistory(tmp_path)
    assert history.settle("a", {}, SHARD) == (None, None)
    assert history.settle("a", {"input": 1}, SHARD) == (Prices(1), None)
    history.add("a", Prices(1), SHARD)
    history.add("a", Prices(1), SHARD)
    history.add("b", Prices(7), SHARD)
    prices, said = history.settle("a", {"output": 2}, SHARD)
    assert prices == Prices(1, 2) and said and "prices have changed: 1 per million input tokens, 2 per million" in said
    history.add("a", Prices(1, 2), SHARD)
    again = PriceHistory(tmp_path)
    assert [record.prices for record in again.records("a")] == [Prices(1), Prices(1, 2)]
    assert again.settle("a", {"output": 2}, SHARD) == (Prices(1, 2), None)
    assert again.settle("a", {"input": 0, "output": 0}, SHARD)[0] == Prices()
    pricing = again.pricing(SHARD)
    assert pricing("a", 0.0) == Prices(1)  # sent before any price was known
    assert pricing("a", time.time() + 1) == Prices(1, 2) and pricing("b", 0.0) == Prices(7)
    assert pricing("c", 0.0) is None
    # A shard without prices of its own has those of the others.
    assert again.pricing("shard-00001-of-00002")("b", 0.0) == Prices(7)


def test_a_bill_with_two_prices_is_that_of_a_calculation_by_hand(maker: RequestMaker):
    requests = [request for review in reviews(3) for request in maker.requests(review)]
    rows = [row(request, finished=1000.0 + 100 * i, seconds=10, devices=2) for i, request in enumerate(requests)]
    (bill,) = bills([rows], [lambda teacher, at: Prices(1e6, 0, 3600 if at < 1150 else 7200)]).values()
    assert bill.cost == 3 * 100 + 2 * 10 * 2 + 1 * 10 * 2 * 2
    assert bill.seconds == 30 and bill.device_seconds == 60 and len(bill.reviews) == 3


@pytest.mark.parametrize(
    "line", ["{", "[1]", "\0\udcff", '{"teacher": "a", "since": "2026-01-01T00:00:00Z", "input": -1}']
)
def test_damaged_prices_are_an_error_with_file_and_line(tmp_path: Path, capsys, line: str):
    history = PriceHistory(tmp_path)
    (tmp_path / SHARD).mkdir()
    history.add("a", Prices(1), SHARD)
    path = tmp_path / SHARD / FILE
    # A blank line, which deleting a line may leave, is no damage.
    path.write_text(path.read_text() + "\n \n")
    assert [record.prices for record in PriceHistory(tmp_path).records("a")] == [Prices(1)]
    path.write_text(path.read_text() + line + "\n", errors="surrogateescape")
    assert main(["teach-report", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert f"{path}:4: expected a teacher, since when, and its prices" in error and "to fix it: correct or" in error


@pytest.mark.parametrize("price", [-1.0, float("nan"), float("inf")])
def test_impossible_prices_are_refused(price: float):
    with pytest.raises(SettingError, match="--price-device-hour: expected a price of at least 0"):
        Prices(device_hour=price)
