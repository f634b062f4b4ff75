"""Help: the pages that ship as Markdown and each experiment's own text. Links lead to other pages only."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from PySide6.QtCore import QUrl
from PySide6.QtWidgets import QTextBrowser, QVBoxLayout, QWidget

from app.panels import markdown
from app.panels.panel import Panel
from app.panels.parts import button, row
from app.theme import L, S
from engine import places
from engine.runs import helppage

if TYPE_CHECKING:
    from app.workbench import Workbench

FIRST = "index"


def pages() -> dict[str, Path]:
    """The help pages that ship, by name; the first steps come first."""
    found = sorted((places.resources() / "help").glob("*.md"), key=lambda path: (path.stem != "start", path.stem))
    return {path.stem: path for path in found}


class HelpPage(Panel):
    """Shows a page, or an experiment's help. Text can be selected; the browser opens nothing outside."""

    kind = "help"

    def __init__(self, key: str, workbench: Workbench, parent: QWidget | None = None) -> None:
        super().__init__(key, workbench, parent)
        self.page = key or FIRST
        self._been: list[str] = []
        self.browser = QTextBrowser()
        self.browser.setOpenLinks(False)
        self.browser.setOpenExternalLinks(False)
        self.browser.setFrameShape(QTextBrowser.Shape.NoFrame)
        self.browser.setAccessibleName("Help text")
        self.browser.anchorClicked.connect(self._follow)
        self._back = button("Back", self._go_back, tip="To the page before")
        self._contents = button("Contents", lambda: self.go(FIRST), tip="All help pages")
        bar = row(self._back, self._contents)
        bar.setContentsMargins(L, S, L, S)
        whole = QVBoxLayout(self)
        whole.setContentsMargins(0, 0, 0, 0)
        whole.setSpacing(0)
        whole.addLayout(bar)
        whole.addWidget(self.browser)
        workbench.theme_changed.connect(self._show)
        workbench.catalogue_changed.connect(self._show)
        self._show()

    def title(self) -> str:
        described = self.workbench.catalogue.get(self.page)
        if described is not None:
            return f"Help: {described['title']}"
        text = self._text()
        first = text.lstrip().partition("\n")[0]
        words = first.lstrip("# ")
        return f"Help: {words}" if first.startswith("#") and words != "Help" else "Help"

    def state(self) -> dict[str, Any]:
        return {"page": self.page}

    def restore(self, state: dict[str, Any]) -> None:
        page = state.get("page")
        if isinstance(page, str):
            self.page = page
            self._show()

    def closing(self) -> None:
        self.workbench.theme_changed.disconnect(self._show)
        self.workbench.catalogue_changed.disconnect(self._show)

    def go(self, page: str) -> None:
        """Show another page or another experiment's help."""
        if page != self.page:
            self._been.append(self.page)
            self.page = page
            self._show()

    def _go_back(self) -> None:
        if self._been:
            self.page = self._been.pop()
            self._show()

    def _follow(self, url: QUrl) -> None:
        if not url.scheme() and not url.path() and url.hasFragment():
            self.browser.scrollToAnchor(url.fragment())
        elif not url.scheme():
            self.go(url.path().removesuffix(".md").rpartition("/")[2])
        else:
            # Nothing here opens a browser or a file: the address is shown, to be copied by who wants it.
            self.workbench.message.emit("info", f"This link leads outside Superscope: {url.toString()}", "")

    def _text(self) -> str:
        described = self.workbench.catalogue.get(self.page)
        if described is not None:
            return helppage.page(described)
        found = pages()
        if self.page in found:
            text = found[self.page].read_text("utf-8")
        elif self.page == FIRST:
            text = "# Help"
        else:
            text = f"# Help\n\nThere is no help page called “{self.page}”. The pages there are:"
        if self.page == FIRST or self.page not in found:
            text += "\n\n" + self._contents_text(found)
        return text

    def _contents_text(self, found: dict[str, Path]) -> str:
        lines = [f"- [{_heading_of(path)}]({name})" for name, path in found.items() if name != FIRST]
        areas: dict[str, list[str]] = {}
        for name, described in self.workbench.catalogue.items():
            areas.setdefault(described.get("area", ""), []).append(f"- [{described['title']}]({name})")
        parts = ["\n".join(lines)] if lines else []
        if areas:
            parts.append("## Experiments and looks")
        parts += [f"### {area}\n\n" + "\n".join(entries) for area, entries in areas.items()]
        return "\n\n".join(parts)

    def _show(self) -> None:
        markdown.show(self.browser, self._text(), self.workbench.theme)
        self._back.setEnabled(bool(self._been))
        self._say_title()


def _heading_of(path: Path) -> str:
    first = path.read_text("utf-8").lstrip().partition("\n")[0]
    return first.lstrip("# ").strip() or path.stem
