"""What a person sees first: what this is, four ways to begin, what was open lately, what can be recovered."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from PySide6.QtCore import QSize, Qt
from PySide6.QtGui import QPixmap, QResizeEvent
from PySide6.QtWidgets import QFrame, QGridLayout, QHBoxLayout, QLabel, QPushButton, QSizePolicy, QVBoxLayout, QWidget

from app.icons import pixmap
from app.panels.panel import Page
from app.panels.parts import label, title_label
from app.theme import XL, XS, L, M, S, heading, set_role, small
from app.window import thumbnails

if TYPE_CHECKING:
    from app.settings import Recent
    from app.workbench import Workbench
    from engine.session import Recovery

SENTENCE = (
    "Open a language model, look at what happens inside it, steer what it writes, train dictionaries on its "
    "activations, and keep everything in one session file."
)
CHOICES = (
    ("file.demo", "demo", "Open the demo session", "A small trained model with finished runs to look at"),
    (
        "file.model",
        "models",
        "Open a model",
        "Look inside and steer: SmolLM2, a GGUF file, a folder or a Hugging Face id",
    ),
    ("file.toy", "train", "Toy models", "Small worlds with known answers, each trained in a minute"),
    ("file.open", "open", "Open a session…", "Go on with a .superscope file"),
)
NARROW = 560  # below this the choices stand in one column
WIDE = 860


class Host(Protocol):
    """What the start page needs of the window."""

    def recoveries(self) -> list[Recovery]: ...
    def recover(self, recovery: Recovery) -> None: ...
    def forget_recovery(self, recovery: Recovery) -> None: ...
    def open_path(self, path: Path) -> None: ...


def ago(then: float, now: float | None = None) -> str:
    """A moment as people say it: ``12 s ago``, ``5 min ago``, ``yesterday``, ``3 Mar 2026``."""
    now = time.time() if now is None else now
    seconds = max(now - then, 0)
    if seconds < 2:
        return "just now"
    if seconds < 60:
        return f"{seconds:.0f} s ago"
    if seconds < 3600:
        return f"{seconds // 60:.0f} min ago"
    if seconds < 86_400:
        return f"{seconds // 3600:.0f} h ago"
    if seconds < 2 * 86_400:
        return "yesterday"
    if seconds < 14 * 86_400:
        return f"{seconds // 86_400:.0f} days ago"
    day = time.localtime(then)
    return f"{day.tm_mday} {time.strftime('%b %Y', day)}"


class Card(QPushButton):
    """A large choice: an icon, words, and a line below them."""

    def __init__(self, glyph: str, title: str, detail: str, workbench: Workbench) -> None:
        super().__init__()
        self.setAutoDefault(True)  # Enter presses it, as Space does
        self._glyph = glyph
        set_role(self, "card")
        self.setAccessibleName(title.rstrip("…"))
        self.setAccessibleDescription(detail)
        self.setCursor(Qt.CursorShape.PointingHandCursor)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Preferred)
        self._sign = QLabel()
        words = QLabel(title)
        words.setFont(_bold(words))
        more = QLabel(detail)
        more.setWordWrap(True)
        set_role(more, "muted")
        column = QVBoxLayout()
        column.setSpacing(XS)
        column.addWidget(words)
        column.addWidget(more)
        column.addStretch(1)
        self._row = QHBoxLayout(self)
        self._row.setContentsMargins(L, L, L, L)
        self._row.setSpacing(M)
        self._row.addWidget(self._sign, 0, Qt.AlignmentFlag.AlignTop)
        self._row.addLayout(column, 1)
        for child in self.findChildren(QLabel):
            child.setAttribute(Qt.WidgetAttribute.WA_TransparentForMouseEvents)
        self.recolour(workbench)

    def recolour(self, workbench: Workbench) -> None:
        self._sign.setPixmap(pixmap(self._glyph, 24, workbench.theme.accent, self.devicePixelRatioF()))

    def sizeHint(self) -> QSize:
        return self._row.sizeHint()

    def minimumSizeHint(self) -> QSize:
        return self._row.minimumSize()

    def hasHeightForWidth(self) -> bool:
        return True

    def heightForWidth(self, width: int) -> int:
        return self._row.heightForWidth(width)


class RecentRow(QPushButton):
    """A session that was open: picture, title, where it lies, when it was saved."""

    def __init__(self, recent: Recent, workbench: Workbench) -> None:
        super().__init__()
        self.setAutoDefault(True)
        path = Path(recent.path)
        self.there = path.exists()
        set_role(self, "card")
        title = path.stem
        when = f"saved {ago(recent.saved)}" if self.there else "the file is not there any more"
        self.setAccessibleName(f"Open {title}")
        self.setAccessibleDescription(f"{recent.path}, {when}")
        self.setToolTip(recent.path)
        self.setEnabled(self.there)
        picture = QLabel()
        picture.setFixedSize(*thumbnails.SHOWN)
        picture.setAlignment(Qt.AlignmentFlag.AlignCenter)
        found = thumbnails.find(path, workbench.theme.name)
        if found is not None:
            shown = QPixmap(str(found))
            shown.setDevicePixelRatio(shown.width() / thumbnails.SHOWN[0])
            picture.setPixmap(shown)
        else:
            picture.setPixmap(pixmap("runs", 24, workbench.theme.muted, self.devicePixelRatioF()))
        words = QLabel(title)
        words.setFont(_bold(words))
        words.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Preferred)
        place = QLabel()
        # It gives way first: the tool tip has the whole path.
        place.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Preferred)
        place.setToolTip(recent.path)
        place.setFont(small())
        set_role(place, "muted")
        # Two files can have one title: the file's name stands first.
        about = recent.title if recent.title not in ("", title) else ""
        place.setText(" · ".join(part for part in (about, _shortened(path)) if part))
        saved = QLabel(when)
        saved.setFont(small())
        set_role(saved, "muted")
        column = QVBoxLayout()
        column.setSpacing(2)
        column.addStretch(1)
        column.addWidget(words)
        column.addWidget(place)
        column.addStretch(1)
        row = QHBoxLayout(self)
        row.setContentsMargins(S, S, L, S)
        row.setSpacing(M)
        row.addWidget(picture)
        row.addLayout(column, 1)
        row.addWidget(saved)
        self.setFixedHeight(thumbnails.SHOWN[1] + 2 * S)
        for child in self.findChildren(QLabel):
            child.setAttribute(Qt.WidgetAttribute.WA_TransparentForMouseEvents)


class StartPage(Page):
    """The page. It is a tab like others and comes back when the last of them is closed."""

    kind = "start"

    def __init__(self, workbench: Workbench, host: Host) -> None:
        super().__init__("", workbench)
        self._host = host
        self._shown: list[QWidget] = []  # recoveries and recent sessions
        self._recoveries = QVBoxLayout()
        self._recoveries.setSpacing(S)
        self.column.addLayout(self._recoveries)
        name = title_label("Superscope")
        font = heading()
        font.setPointSizeF(font.pointSizeF() * 1.25)
        name.setFont(font)
        self.column.addWidget(name)
        sentence = label(SENTENCE)
        sentence.setMaximumWidth(WIDE)
        self.column.addWidget(sentence)
        self.cards = [Card(glyph, title, detail, workbench) for _, glyph, title, detail in CHOICES]
        for card, (command, *_) in zip(self.cards, CHOICES, strict=True):
            card.clicked.connect(lambda _=False, command=command: workbench.commands.run(command))
        holder = QWidget()
        holder.setMaximumWidth(WIDE)
        self._grid = QGridLayout(holder)
        self._grid.setContentsMargins(0, S, 0, S)
        self._grid.setSpacing(M)
        self.column.addWidget(holder)
        self._recent_title = title_label("Recent sessions")
        self.column.addWidget(self._recent_title)
        self._recent = QVBoxLayout()
        self._recent.setSpacing(S)
        self.column.addLayout(self._recent)
        self.column.addStretch(1)
        self._arrange(2)
        self.refresh()
        workbench.theme_changed.connect(self._recolour)

    def title(self) -> str:
        return "Start"

    def refresh(self) -> None:
        """Read again what can be recovered and what was open lately."""
        _clear(self._shown)
        for recovery in self._host.recoveries():
            card = self._recovery_card(recovery)
            self._shown.append(card)
            self._recoveries.addWidget(card)
        rows = self.workbench.settings.recent
        for recent in rows:
            row = RecentRow(recent, self.workbench)
            row.setMaximumWidth(WIDE)
            row.clicked.connect(lambda _=False, path=Path(recent.path): self._host.open_path(path))
            self._shown.append(row)
            self._recent.addWidget(row)
        self._recent_title.setVisible(bool(rows))

    def resizeEvent(self, event: QResizeEvent) -> None:
        super().resizeEvent(event)
        self._arrange(1 if event.size().width() < NARROW + 2 * XL else 2)

    def _arrange(self, columns: int) -> None:
        if self._grid.count() and self._grid.columnStretch(1) == (1 if columns == 2 else 0):
            return
        for card in self.cards:
            self._grid.removeWidget(card)
        for place, card in enumerate(self.cards):
            self._grid.addWidget(card, place // columns, place % columns)
        self._grid.setColumnStretch(0, 1)
        self._grid.setColumnStretch(1, 1 if columns == 2 else 0)

    def _recolour(self) -> None:
        for card in self.cards:
            card.recolour(self.workbench)
        self.refresh()

    def _recovery_card(self, recovery: Recovery) -> QFrame:
        card = QFrame()
        card.setMaximumWidth(WIDE)
        set_role(card, "notice-warning")
        runs = len(recovery.runs) if isinstance(recovery.runs, list | tuple) else int(recovery.runs)
        title = recovery.title or "Untitled"
        words = label(
            f"“{title}” ended unexpectedly {ago(recovery.when)}. "
            f"Everything up to then is kept: {runs} run{'' if runs == 1 else 's'}."
        )
        go_on = QPushButton("Recover")
        go_on.setAccessibleName(f"Recover {title}")
        go_on.setAutoDefault(True)
        set_role(go_on, "primary")
        go_on.clicked.connect(lambda: self._host.recover(recovery))
        drop = QPushButton("Discard…")
        drop.setAccessibleName(f"Discard {title}")
        drop.clicked.connect(lambda: self._host.forget_recovery(recovery))
        buttons = QHBoxLayout()
        buttons.setSpacing(S)
        buttons.addWidget(go_on)
        buttons.addWidget(drop)
        buttons.addStretch(1)
        column = QVBoxLayout(card)
        column.setContentsMargins(L, M, M, M)
        column.setSpacing(S)
        column.addWidget(words)
        column.addLayout(buttons)
        return card


def _shortened(path: Path) -> str:
    """A path with the home folder as ~ and a middle left out where it is long."""
    text = str(path)
    home = str(Path.home())
    if text.startswith(home + "/"):
        text = "~" + text[len(home) :]
    return text if len(text) <= 70 else f"{text[:30]}…{text[-38:]}"


def _bold(widget: QWidget):  # type: ignore[no-untyped-def]
    font = widget.font()
    font.setBold(True)
    return font


def _clear(widgets: list[QWidget]) -> None:
    for widget in widgets:
        widget.hide()
        widget.deleteLater()
    widgets.clear()
