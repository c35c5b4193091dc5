"""What the commands do is importable from fsa_jax; the examples of docs/library.md are executed."""

from __future__ import annotations

import csv
import inspect
import re
import subprocess
import sys
import typing
from pathlib import Path

import pytest
from oracle_server import oracle_server

import fsa_jax
from fsa_jax.synthetic.oracle import Oracle
from fsa_jax.synthetic.world import draw_reviews

ROOT = Path(__file__).parents[1]
EXAMPLES = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "library.md").read_text("utf-8"), re.DOTALL)


def test_the_examples_of_the_page_run_and_the_functions_print_nothing(tmp_path, monkeypatch, capfd):
    known = list(draw_reviews(0, 120))
    with open(tmp_path / "reviews.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("id", "text", "stars"))
        writer.writerows((one.review.id, one.review.text, one.review.stars) for one in known)
    archive = ROOT / "tests" / "testdata" / "v528859f" / "ct2.tar.xz"
    subprocess.run(["tar", "xf", str(archive), "-C", str(tmp_path)], check=True)
    (tmp_path / "ct2").rename(tmp_path / "served")
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    with oracle_server(known, Oracle()) as address:
        for example in EXAMPLES:
            said: list[tuple[object, ...]] = []
            names["print"] = lambda *words, said=said: said.append(words)
            exec(example.replace("https://api.openai.com/v1", address), names)
            assert said
            assert capfd.readouterr().out == ""
    assert set(re.findall(r"fsa_jax\.(\w+)", "".join(EXAMPLES))) >= set(fsa_jax._PLACES) | {"teacher"}


@pytest.mark.parametrize("name", sorted(fsa_jax._PLACES))
def test_every_public_name_is_documented_and_typed(name):
    found = getattr(fsa_jax, name)
    assert name in dir(fsa_jax) and inspect.getdoc(found)
    function = found.__init__ if inspect.isclass(found) else found
    hints = typing.get_type_hints(function)
    parameters = [one for one in inspect.signature(function).parameters if one not in ("self", "data")]
    assert set(parameters) <= set(hints)
    with pytest.raises(AttributeError, match="nothing_of_this_name"):
        _ = fsa_jax.nothing_of_this_name


def test_importing_the_package_loads_none_of_its_functions():
    code = "import fsa_jax, sys; print([name for name in sys.modules if name.startswith('fsa_jax.')])"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"
    assert all((ROOT / folder / "py.typed").is_file() for folder in ("fsa_jax", "base/fsa_base", "runtime/t5x"))
