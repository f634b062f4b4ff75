"""The gallery of toy models: what each shows, its form one click away, and finished runs of all to look at first."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from PySide6.QtWidgets import QFrame, QSizePolicy, QVBoxLayout, QWidget

from app.panels.markdown import plain
from app.panels.panel import Page
from app.panels.parts import Notice, ResponsiveGrid, button, label, row, section_label, title_label
from app.theme import L, M, S, set_role
from engine import places

if TYPE_CHECKING:
    from pathlib import Path

    from app.workbench import Workbench

AREA = "Toy models"
LEAST = 300  # pixels of a card
# What belongs together stands together, the best known first; toys of other packages follow by title.
ORDER = (
    "superposition", "superposition-phases", "modular-addition", "modular-steering", "grokfast-comparison", "label-noise",
    "weekday-addition", "number-addition", "tiny-language-model", "story-understanding", "belief-states", "belief-simplices",
    "memorisation", "memorisation-scaling", "memorisation-quantisation", "universal-and", "feature-splitting",
    "feature-splitting-learned", "hierarchical-concepts", "max-of-k", "bilinear-layers", "out-of-context",
    "backdoor", "backdoor-detection", "story-backdoor",
)  # fmt: skip
SENTENCE = (
    "Small worlds with known answers: each is trained here in about a minute, shows its controls beside its result, "
    "and becomes a model that every other panel can open."
)


def finished_toys() -> Path:
    """The session with a finished run of every toy that ships; it opens as an unsaved copy."""
    return places.resources() / "demo" / "toys.superscope"


class ToyCard(QFrame):
    """One toy: its title, what it shows, and what one can do."""

    def __init__(self, described: dict[str, Any], workbench: Workbench, *, finished: bool) -> None:
        super().__init__()
        set_role(self, "card")
        self.name = str(described["name"])
        self.setAccessibleName(str(described["title"]))
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Minimum)
        more = label(plain(str(described["help"]).split("\n\n")[0]), role="muted")
        actions = [button("Train…", lambda: workbench.show_form(self.name), tip=f"The form of {described['title']}")]
        if finished:
            actions.append(
                button("Finished run", lambda: workbench.toys_wanted.emit(self.name), tip="A run that ships, as a copy")
            )
        actions.append(button("How to read it", lambda: workbench.open_panel("help", self.name)))
        for made in actions:
            made.setAccessibleName(f"{made.text().rstrip('…')}: {described['title']}")
        whole = QVBoxLayout(self)
        whole.setContentsMargins(L, M, L, M)
        whole.setSpacing(S)
        whole.addWidget(section_label(str(described["title"])))
        whole.addWidget(more)
        whole.addStretch(1)
        whole.addLayout(row(*actions))


class ToyGallery(Page):
    """All toys that the engine knows."""

    kind = "toys"

    def __init__(self, key: str, workbench: Workbench, parent: QWidget | None = None) -> None:
        super().__init__(key, workbench, parent)
        self.hint = Notice()
        self.grid = ResponsiveGrid(LEAST, 3)
        self._names: tuple[str, ...] = ()
        self.column.addWidget(title_label(AREA))
        self.column.addWidget(label(SENTENCE))
        if finished_toys().exists():
            everything = button(
                "Open finished runs of all toys", lambda: workbench.toys_wanted.emit(""), role="primary"
            )
            self.column.addLayout(row(everything))
        self.column.addWidget(self.hint)
        self.column.addWidget(self.grid)
        self.column.addStretch(1)
        workbench.catalogue_changed.connect(self._refresh)
        self._refresh()

    def title(self) -> str:
        return AREA

    def closing(self) -> None:
        self.workbench.catalogue_changed.disconnect(self._refresh)

    def cards(self) -> list[ToyCard]:
        """The cards in order."""
        return [tile for tile in self.grid.tiles if isinstance(tile, ToyCard)]

    def _refresh(self) -> None:
        toys = [
            described
            for described in self.workbench.catalogue.values()
            if described["area"] == AREA and described.get("lane") == "job"
        ]
        place = {name: number for number, name in enumerate(ORDER)}
        toys.sort(key=lambda described: (place.get(described["name"], len(place)), str(described["title"])))
        self.hint.say("" if toys else "The toys appear here as soon as the engine has started.")
        names = tuple(str(described["name"]) for described in toys)
        if names == self._names:
            return
        self._names = names
        for card in self.cards():
            card.deleteLater()
        finished = finished_toys().exists()
        self.grid.set_tiles(
            [(ToyCard(described, self.workbench, finished=finished), False) for described in toys]
        )  # fmt: skip
