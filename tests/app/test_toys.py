"""Toys in the window: the gallery, forms that follow a toy, and a look at a network that has no tokens."""

from __future__ import annotations

from PySide6.QtCore import Qt
from PySide6.QtWidgets import QPushButton

from app.panels.activation_viewer import ActivationViewer
from app.panels.run_page import RunPage
from app.panels.toy_gallery import ToyGallery
from tests.app.conftest import Shell


def field(shell: Shell, name: str):
    return next(entry for entry in shell.window.form.fields if entry.parameter.name == name)


def put(shell: Shell, name: str, text: str) -> None:
    """Type ``text`` over what stands in a field."""
    line = field(shell, name).editor.lineEdit()
    line.setFocus()
    line.selectAll()
    shell.qtbot.keyClicks(line, text)
    shell.qtbot.keyClick(line, Qt.Key.Key_Tab)


def test_choosing_a_toy_fills_in_its_own_text_and_hook_point_and_leaving_it_brings_the_usual_back(shell: Shell):
    run = shell.run("sample-planting")
    shell.workbench.show_form("train-dictionary")
    assert f"toy:{run}" in field(shell, "model").known()
    assert f"toy:{run}" in field(shell, "text").known()
    put(shell, "model", f"toy:{run}")
    assert field(shell, "text").text() == f"toy:{run}"
    assert field(shell, "hook").text() == "blocks.0.hook_hidden"
    put(shell, "model", "demo")
    assert field(shell, "text").text() == "stories"
    assert field(shell, "hook").text() == "blocks.0.hook_resid_post"


def test_a_text_that_was_typed_stays_when_the_toy_is_left(shell: Shell):
    run = shell.run("sample-planting")
    shell.workbench.show_form("train-dictionary")
    put(shell, "model", f"toy:{run}")
    put(shell, "text", "python-docs")
    put(shell, "model", "demo")
    assert field(shell, "text").text() == "python-docs"


def test_a_network_without_tokens_is_looked_at_sample_by_sample(shell: Shell):
    run = shell.run("sample-planting")
    shell.workbench.open_panel("activations", f"toy:{run}")
    viewer = shell.window.tabs.current()
    assert isinstance(viewer, ActivationViewer)
    assert viewer.prompt.toPlainText().split() == [str(number) for number in range(12)]
    shell.wait(lambda: viewer.pictures.map is not None and not viewer.asker.is_waiting)
    assert viewer.problem.text == ""
    assert viewer.controls.stream.current == "hook_out"
    assert viewer.pictures.map.figure.values.shape == (1, 12)
    assert set(" ".join(viewer.pictures.strip.figure.tokens).split()) <= {
        word for names in ("left", "middle", "right") for word in (f"{{{names}", f"{names}}}", f"{{{names}}}", names)
    } | {"{}"}
    viewer.prompt.setPlainText("0 1 4000")
    shell.wait(lambda: viewer.problem.text)
    assert viewer.problem.text == "“4000” is no sample of this toy: it reads numbers from 0 to 399, as in 0 1 2."


def test_the_gallery_lists_every_toy_and_leads_to_its_form_with_an_estimate(shell: Shell):
    shell.workbench.open_panel("toys")
    gallery = shell.window.tabs.current()
    assert isinstance(gallery, ToyGallery)
    names = {card.name for card in gallery.cards()}
    declared = {
        name for name, one in shell.workbench.catalogue.items() if one["area"] == "Toy models" and one["lane"] == "job"
    }
    assert names == declared
    assert "superposition" in names
    card = next(card for card in gallery.cards() if card.name == "superposition")
    train = next(made for made in card.findChildren(QPushButton) if made.text() == "Train…")
    shell.qtbot.mouseClick(train, Qt.MouseButton.LeftButton)
    assert shell.window.form.experiment == "superposition"
    shell.wait(lambda: shell.window.form.estimate.text().startswith("About "))


def test_the_finished_runs_open_as_a_copy_at_the_toy_that_was_asked_for(shell: Shell):
    shell.workbench.open_panel("toys")
    gallery = shell.window.tabs.current()
    assert isinstance(gallery, ToyGallery)
    card = next(card for card in gallery.cards() if card.name == "modular-addition")
    look = next(made for made in card.findChildren(QPushButton) if made.text() == "Finished run")
    shell.qtbot.mouseClick(look, Qt.MouseButton.LeftButton)
    shell.wait(lambda: isinstance(shell.window.tabs.current(), RunPage))
    page = shell.window.tabs.current()
    assert page.key == "modular-addition-1"
    assert shell.workbench.session.path is None, "it is a copy"
    assert page.timeline.isVisible()
    assert page.timeline.slider.maximum() >= 20
    page.timeline.slider.setValue(0)
    assert page.timeline.words.text().startswith("step 0 · 1 of ")
    shell.wait(lambda: not shell.workbench.painter.active)
