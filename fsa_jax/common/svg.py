"""Figures for pages that load nothing."""

from __future__ import annotations

import base64
import io

import matplotlib
from matplotlib.figure import Figure


def data_uri(figure: Figure) -> str:
    """Returns ``figure`` as a data URI: as an image, its SVG cannot run or load anything.

    Without a date, and with ids that are not random, so that the same figure is the same text.
    """
    with io.BytesIO() as file, matplotlib.rc_context({"svg.hashsalt": "fsa_jax"}):
        figure.savefig(file, format="svg", bbox_inches="tight", metadata={"Date": None, "Creator": None})
        return "data:image/svg+xml;base64," + base64.b64encode(file.getvalue()).decode()
