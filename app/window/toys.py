"""What a form fills in when a toy of the session is chosen as its model: the toy's own text and hook point."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from app.workbench import Workbench

PREFIX = "toy:"


def fitting(workbench: Workbench, model: str) -> dict[str, str]:
    """Values of ``text`` and ``hook`` that fit a toy; those that are not known are left out, all for another model.

    The hook point is one where features were planted, else the last of a network without tokens; a transformer's
    usual hook points fit as they are.
    """
    if not model.startswith(PREFIX) or not workbench.begun:
        return {}
    for thing in workbench.session.things("models"):
        if thing.attributes.get("reference") == model:
            return _values(thing.attributes)
    return {}


def _values(attributes: dict[str, Any]) -> dict[str, str]:
    found = {}
    if attributes.get("text"):
        found["text"] = str(attributes["text"])
    planted, stages = attributes.get("planted"), attributes.get("stages")
    if isinstance(planted, dict) and planted:
        found["hook"] = str(next(iter(planted)))
    elif isinstance(stages, list) and stages and isinstance(stages[-1], dict):
        found["hook"] = f"blocks.{stages[-1].get('layer', 0)}.hook_{stages[-1].get('name', '')}"
    return found
