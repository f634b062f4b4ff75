"""A steering bench over scripted answers: the engine says what the test says."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from PySide6.QtCore import QPoint, Qt

from app.panels.steering_bench import SteeringBench
from engine.figures.kinds import Axis, Bars

from .fakes import Looks

POINTS = [
    {"name": f"blocks.{layer}.{stream}", "shape": "(batch, position, d_model)", "width": 64}
    for layer in range(4)
    for stream in ("hook_resid_pre", "hook_mlp_out", "hook_resid_post")
] + [{"name": "hook_embed", "width": 64}, {"name": "blocks.0.attn.hook_pattern", "width": 0}]
PROMPT = "one monday anna felt"
CLEAN = ["felt", "happy", ".", "anna"]
STEERED = ["felt", "sad", ".", "anna"]
MARKS = [False, True, False, False]


def bars(title: str) -> Bars:
    return Bars(
        title=title, x_axis=Axis("Token"), y_axis=Axis("Logit"), label=np.array(["a", "b"]), value=np.array([1.0, -1.0])
    )


def facts(steered: list[str], **more: Any) -> dict[str, Any]:
    return {
        "prompt_tokens": ["<start>", "tom", "went"],
        "clean": {"tokens": CLEAN},
        "steered": {"tokens": steered},
        "marks": MARKS[: len(steered)],
        "milliseconds_to_first": 183.4,
        "mean_kl": 0.421,
        "slider": [-3.0, 3.0],
        "data_range": [-1.2, 1.4],
        **more,
    }


class Scene:
    """A bench whose engine says what the test says."""

    def __init__(self, bench: Any, panel: SteeringBench, looks: Looks) -> None:
        self.bench, self.panel, self.looks = bench, panel, looks

    @property
    def steers(self) -> list[dict[str, Any]]:
        """Parameters of every question to the look "steer"."""
        return [asked for asked in self.looks.asked if "strength" in asked]

    @property
    def newest(self) -> int:
        return len(self.looks.asked)

    def open_model(self) -> None:
        """Let the model say what it has."""
        self.looks.answer(self.newest, facts={"here": True, "hook_points": POINTS})

    def partly(self, *tokens: str, look: int = 0) -> None:
        self.looks.answer(look or self.newest, facts=facts(list(tokens)), done=False)

    def answer(self, look: int = 0, **more: Any) -> None:
        figures = {"logits": bars("Logit changes")}
        self.looks.answer(look or self.newest, figures, facts=facts(STEERED, **more))

    def asked(self, count: int) -> None:
        """Wait until so many questions were put."""
        self.bench.wait(lambda: len(self.steers) == count)

    def drag_to(self, strength: float, *, press: bool = False, release: bool = False) -> None:
        slider = self.panel.strength.slider
        place = QPoint(round(slider.place_of(strength)), slider.height() // 2)
        if press:
            here = QPoint(round(slider.place_of(slider.strength)), slider.height() // 2)
            self.bench.qtbot.mousePress(slider, Qt.MouseButton.LeftButton, pos=here)
        self.bench.qtbot.mouseMove(slider, place)
        if release:
            self.bench.qtbot.mouseRelease(slider, Qt.MouseButton.LeftButton, pos=place)

    def text(self) -> str:
        return self.panel.texts.steered.text.toPlainText()

    def dim(self) -> tuple[bool, bool]:
        """Whether the clean text and the steered one are dimmed."""
        return self.panel.texts.clean.veil.isVisible(), self.panel.texts.steered.veil.isVisible()


@pytest.fixture
def looks(shared_bench: Any, monkeypatch: pytest.MonkeyPatch) -> Looks:
    made = Looks()
    monkeypatch.setattr(shared_bench.workbench, "ask", made.ask)
    monkeypatch.setattr(shared_bench.workbench, "cancel", made.cancel)
    return made


@pytest.fixture
def closed(shared_bench: Any, looks: Looks) -> Scene:
    """A bench that has just been opened; the model has not answered yet."""
    panel = shared_bench.open("steering", "demo")
    assert isinstance(panel, SteeringBench)
    panel.prompt.setPlainText(PROMPT)
    return Scene(shared_bench, panel, looks)


@pytest.fixture
def scene(closed: Scene) -> Scene:
    """One that shows its first answer."""
    closed.open_model()
    closed.answer()
    closed.bench.painted()
    return closed
