"""``superscope models``: references, sizes, what is here already, and removing it."""

from __future__ import annotations

from dataclasses import asdict

from engine.cli import DONE
from engine.cli.printing import print_json, size, table
from engine.models import references


def models(*, as_json: bool) -> int:
    """Print the models that can be named without a path and those that are on this machine."""
    known = references.known()
    if as_json:
        print_json([asdict(one) for one in known])
        return DONE
    rows = [
        [one.reference, "here" if one.here else "not here yet", size(one.size) if one.here else "", one.note]
        for one in known
    ]
    for line in table(["reference", "", "size", ""], rows):
        print(line)
    print(f"\nA model is one of {references.FORMS}.")
    return DONE


def remove(reference: str) -> int:
    """Delete what this machine keeps of a model."""
    print(f"Removed {reference}: {size(references.remove(reference))} freed.")
    return DONE
