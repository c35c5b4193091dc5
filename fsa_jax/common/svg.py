"""Figures for HTML pages that work offline."""

from __future__ import annotations

import base64
import io

import matplotlib
from matplotlib.figure import Figure


def data_uri(figure: Figure) -> str:
    """Returns ``figure`` as a data URI of an SVG image, which cannot run scripts or load files.

    The SVG has no date and no random ids, so that equal figures give equal text.
    """
    with io.BytesIO() as file, matplotlib.rc_context({"svg.hashsalt": "fsa_jax"}):
        figure.savefig(file, format="svg", bbox_inches="tight", metadata={"Date": None, "Creator": None})
        return "data:image/svg+xml;base64," + base64.b64encode(file.getvalue()).decode()
