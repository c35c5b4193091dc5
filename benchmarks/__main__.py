"""``python -m benchmarks`` lists the measurements; ``python -m benchmarks NAME …`` runs one.

Their results are in benchmarks/RESULTS.md. Each script also runs by its path, as the results there name it.
"""

from __future__ import annotations

import ast
import runpy
import sys
from pathlib import Path

FOLDER = Path(__file__).parent


def measurements() -> dict[str, str]:
    """The first line of the docstring of every script, by name."""
    scripts = {path.stem: path for path in sorted(FOLDER.glob("*.py")) if not path.stem.startswith("_")}
    return {name: _docstring(path).splitlines()[0] for name, path in scripts.items()}


def _docstring(script: Path) -> str:
    found = ast.get_docstring(ast.parse(script.read_text("utf-8")))
    if not found:
        sys.exit(f"{script} has no docstring, whose first line is listed")
    return found


def main() -> None:
    """Lists the measurements, or runs the one that is named."""
    known = measurements()
    if len(sys.argv) < 2 or sys.argv[1] not in known:
        for name, line in known.items():
            print(f"{name:<18} {line}")
        sys.exit(0 if len(sys.argv) < 2 or sys.argv[1] in ("-h", "--help") else f"no measurement {sys.argv[1]!r}")
    del sys.argv[0]
    sys.path[:0] = [str(FOLDER)]
    runpy.run_path(str(FOLDER / f"{sys.argv[0]}.py"), run_name="__main__")


if __name__ == "__main__":
    main()
