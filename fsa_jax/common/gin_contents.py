"""The gin files that a recipe consists of, found as the engine finds them."""

from __future__ import annotations

import hashlib
import importlib.util
import re
from pathlib import Path

from fsa_base.errors import MissingDataError
from fsa_jax.common import installed_files
from fsa_jax.common.training_engine import PACKAGE

_INCLUDE = re.compile(r"""^[ \t]*include[ \t]+(["'])(.+?)\1""", re.MULTILINE)


def with_includes(recipe: str) -> dict[str, Path]:
    """A gin file and all files that it includes, directly or indirectly, by their names in the includes.

    Files are searched in the same places as by the engine: below the working directory, where the engine is started,
    then in the engine's folder, then in the folder of fsa_jax's gin files.

    Raises:
      MissingDataError: a file is missing.
    """
    engine = importlib.util.find_spec(PACKAGE)
    packages = [Path(place).parent for place in (engine and engine.submodule_search_locations) or ()]
    places = (Path.cwd(), *packages, installed_files.root())
    found: dict[str, Path] = {}
    names = [recipe]
    while names:
        name = names.pop()
        if name in found:
            continue
        files = [place / name for place in places if (place / name).is_file()]
        if not files:
            searched = " or ".join(map(str, places))
            raise MissingDataError(name, expected=f"it in {searched}", found="nothing", fix="correct the name")
        found[name] = files[0]
        names += [match[2] for match in _INCLUDE.finditer(files[0].read_text(encoding="utf-8"))]
    return found


def contents_digest(recipe: str, start: str = "") -> str:
    """Hash of a gin file and of all files that it includes.

    Args:
      recipe: name of the gin file.
      start: text that is hashed too.
    """
    digest = hashlib.sha256(start.encode())
    for name, file in sorted(with_includes(recipe).items()):
        content = file.read_bytes()
        digest.update(f"{name} {len(content)}\n".encode() + content)
    return digest.hexdigest()
