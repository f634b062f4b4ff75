"""The three sizes of every toy."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

from pydantic import Field

Size: TypeAlias = Annotated[
    Literal["quick", "demo", "paper"],
    Field(description="quick takes seconds, demo under a minute, paper is the published size and may take hours"),
]
FRAMES = {"quick": 12, "demo": 60, "paper": 120}  # of a movie, log-spaced
