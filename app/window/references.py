"""What models, texts and prompt sets can be named in a form: built-in references and those the session knows."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias

from engine.errors import SuperscopeError

if TYPE_CHECKING:
    from app.workbench import Workbench

Dropped: TypeAlias = Literal["session", "model", "dictionary", "text", ""]
SECTION = {"model": "models", "text": "corpora", "prompts": "corpora"}
FILTERS = {
    "model": "Models (*.gguf);;All files (*)",
    "text": "Texts (*.txt *.jsonl *.parquet);;All files (*)",
    "prompts": "Prompt sets (*.csv *.jsonl *.ndjson);;All files (*)",
}
SESSION_FILTER = "Superscope sessions (*.superscope);;All files (*)"


def known(workbench: Workbench, widget: str) -> list[str]:
    """References for a "model", "text" or "prompts" field: those that are always there, then the session's own."""
    if widget == "model":
        from engine.models.references import known as on_this_machine

        found = [entry.reference for entry in on_this_machine()]
    elif widget == "prompts":
        from engine.text.prompts import BUILT_IN as PROMPT_SETS

        found = [*PROMPT_SETS, "sums"]
    else:
        from engine.text.references import BUILT_IN

        found = list(BUILT_IN)
    if workbench.begun:
        try:
            things = workbench.session.things(SECTION[widget])
        except SuperscopeError:
            things = []
        for thing in things:
            # Texts and prompt sets share a section, and neither can be used as the other.
            if widget != "model" and (thing.attributes.get("kind") == "prompts") != (widget == "prompts"):
                continue
            source = thing.attributes.get("source")
            named = source.get("reference") if isinstance(source, dict) else source
            reference = thing.attributes.get("reference") or named
            if isinstance(reference, str) and reference not in found:
                found.append(reference)
    return found


def check(widget: str, reference: str) -> None:
    """Raise the sentence that says why ``reference`` names no model, text or prompt set. Opens nothing."""
    if widget == "model":
        from engine.models.references import parse as parse_model

        parse_model(reference)
    elif widget == "prompts":
        from engine.text.prompts import check as check_prompts

        check_prompts(reference)
    else:
        from engine.text.references import parse as parse_text

        parse_text(reference)


def kind_of(path: Path) -> Dropped:
    """What a dropped or chosen file or folder is; "" where nothing can be done with it."""
    from engine.dictionaries.references import looks_like_dictionary

    ending = path.suffix.lower()
    if ending not in (".superscope", ".gguf") and looks_like_dictionary(path):
        return "dictionary"
    if path.is_dir():
        return "model" if (path / "config.json").is_file() else ""
    if ending == ".superscope":
        return "session"
    if ending == ".gguf":
        return "model"
    return "text" if ending in (".txt", ".jsonl", ".parquet", ".md") else ""
