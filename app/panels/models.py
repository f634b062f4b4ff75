"""What panels need to know of models without asking the engine: their names, whether they are on this machine."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from engine.errors import SuperscopeError
from engine.models import references

if TYPE_CHECKING:
    from app.workbench import Workbench


def title_of(reference: str, workbench: Workbench) -> str:
    """What the session calls the model, else its own short name."""
    for thing in workbench.session.things("models"):
        if thing.attributes.get("reference") == reference and thing.attributes.get("title"):
            return str(thing.attributes["title"])
    try:
        return references.parse(reference).title
    except SuperscopeError:  # not a reference: shown as it is, beside the sentence that says so
        return reference


def is_here(reference: str) -> bool:
    """Whether a model can be opened without fetching anything. Raises `ModelError` for what is no reference."""
    parsed = references.parse(reference)
    if parsed.kind not in ("smollm2", "hub"):
        return True
    return any(known.here for known in references.known() if known.reference == parsed.text)


def usual(workbench: Workbench) -> str:
    """The model to look at when none is named: the newest of the session, else the demo model."""
    models = workbench.session.things("models")
    return str(models[-1].attributes.get("reference") or "demo") if models else "demo"


def listed(first: str, workbench: Workbench) -> list[str]:
    """References to choose from: ``first``, those of the session, the demo model; each once."""
    known = [str(thing.attributes.get("reference") or "") for thing in workbench.session.things("models")]
    return [reference for reference in dict.fromkeys([first, *known, "demo"]) if reference]


def attributes_of(reference: str, workbench: Workbench) -> Mapping[str, Any]:
    """What the session knows of a model; nothing where it is none of its own."""
    for thing in workbench.session.things("models"):
        if thing.attributes.get("reference") == reference:
            return thing.attributes
    return {}


def example_of(reference: str, workbench: Workbench) -> str:
    """A prompt that a toy of the session can read; "" where it names none."""
    return str(attributes_of(reference, workbench).get("example") or "")


def text_for(reference: str, workbench: Workbench) -> str:
    """Text that a model can read: the one that a toy of the session was trained on, the stories, else plain English."""
    own = str(attributes_of(reference, workbench).get("text") or "")
    return own or ("stories" if reference.startswith(("demo", "toy:")) else "python-docs")


def prompt_line(facts: Mapping[str, Any]) -> str:
    """How long a prompt is and what model reads it, from the facts of the look "activations"."""
    return (
        f"{len(facts['tokens']):,} of {facts['context']:,} tokens · {facts['layers']} layers × "
        f"{facts['heads']} heads · d_model {facts['d_model']:,}"
    )


def unknown_line(facts: Mapping[str, Any]) -> str:
    """What to know where a prompt has words outside the model's vocabulary; "" where it has none."""
    unknown = int(facts.get("unknown", 0))
    words = "1 token is" if unknown == 1 else f"{unknown} tokens are"
    return f"{words} unknown to this model: it reads words of its own vocabulary only." if unknown else ""
