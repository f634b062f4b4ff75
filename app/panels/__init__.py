"""The hand-made panels: what the window's tabs hold. `make_panel` makes the one of a kind for a key."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from app.panels.panel import Panel
    from app.workbench import Workbench

# Imported on first use: a panel's imports are not paid for before it is opened.
_WHERE = {
    "run": ("run_page", "RunPage"),
    "compare": ("compare_page", "ComparePage"),
    "activations": ("activation_viewer", "ActivationViewer"),
    "steering": ("steering_bench", "SteeringBench"),
    "model": ("model_card", "ModelCard"),
    "dictionary": ("thing_cards", "DictionaryCard"),
    "text": ("thing_cards", "TextCard"),
    "toys": ("toy_gallery", "ToyGallery"),
    "help": ("help_page", "HelpPage"),
    "notes": ("notes", "Notes"),
}
KINDS = tuple(_WHERE)


def make_panel(kind: str, key: str, workbench: Workbench) -> Panel:
    """The panel of ``kind`` (one of `KINDS`) for ``key``: a run's id, a model's reference, a page's name.

    Raises:
        KeyError: no panel is of that kind.
        SuperscopeError: what ``key`` names is not in the session.
    """
    module, name = _WHERE[kind]
    made: Panel = getattr(importlib.import_module(f"app.panels.{module}"), name)(key, workbench)
    return made
