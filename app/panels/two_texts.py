"""Two texts side by side, one steered and one not, with the tokens marked in which they differ."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from PySide6.QtCore import QEvent, QObject, Qt
from PySide6.QtGui import QResizeEvent, QTextCharFormat, QTextCursor
from PySide6.QtWidgets import QFrame, QHBoxLayout, QPlainTextEdit, QSizePolicy, QVBoxLayout, QWidget

from app.panels.looking import Veil
from app.panels.steering_words import signed
from app.theme import M, S, mono, set_role
from app.views.base import Line

if TYPE_CHECKING:
    from app.workbench import Workbench

LEAST, MOST = 6, 11  # lines of text that are seen
PROMPT, PLAIN, MARKED = "prompt", "plain", "marked"
CLEAN, STEERED = "Not steered", "Steered"


class TokenText(QPlainTextEdit):
    """A prompt and the tokens after it, to be read, selected and copied; grows at its end while they come."""

    def __init__(self, name: str, workbench: Workbench, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.workbench = workbench
        self._pieces: list[tuple[str, str]] = []
        self.setReadOnly(True)
        self.setFont(mono())
        self.setFrameShape(QFrame.Shape.NoFrame)
        self.setTabChangesFocus(True)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setAccessibleName(name)
        self.setPlaceholderText("The model's answer appears here.")
        self.document().setDocumentMargin(0)
        workbench.theme_changed.connect(self._redress)

    @property
    def pieces(self) -> list[tuple[str, str]]:
        """Texts with how they are shown: ``prompt``, ``plain`` or ``marked``."""
        return list(self._pieces)

    def show_tokens(self, prompt: str, tokens: Sequence[str], marks: Sequence[bool], *, words: bool) -> None:
        """Show ``prompt``, muted, and ``tokens``; those whose mark is true are underlined and shaded.

        ``words``: tokens are whole words, between which a space is put.
        """
        wanted = [(prompt, PROMPT)] if prompt else []
        for place, token in enumerate(tokens):
            text = f" {token}" if words and wanted and not wanted[-1][0][-1:].isspace() else token
            # The space before a word is not what differs, unless there is nothing else.
            word = text.lstrip(" ") or text
            wanted += [(text[: len(text) - len(word)], PLAIN)] if word != text else []
            wanted.append((word, MARKED if place < len(marks) and marks[place] else PLAIN))
        known = len(self._pieces)
        if self._pieces != wanted[:known]:
            self.clear()
            known = 0
        self._pieces = wanted
        self._append(wanted[known:])

    def _append(self, pieces: Sequence[tuple[str, str]]) -> None:
        """Write at the end; what is selected above stays selected, and the end stays in sight where it was."""
        bar = self.verticalScrollBar()
        at_end = bar.value() >= bar.maximum()
        cursor = QTextCursor(self.document())
        cursor.movePosition(QTextCursor.MoveOperation.End)
        formats = {kind: self._format(kind) for kind in (PROMPT, PLAIN, MARKED)}
        for text, kind in pieces:
            cursor.insertText(text, formats[kind])
        if at_end:
            bar.setValue(bar.maximum())

    def _format(self, kind: str) -> QTextCharFormat:
        look, made = self.workbench.theme, QTextCharFormat()
        made.setForeground(look.muted if kind == PROMPT else look.text)
        if kind == MARKED:  # not by colour alone
            made.setBackground(look.blend(look.accent, 0.16, look.canvas))
            made.setFontUnderline(True)
        return made

    def _redress(self) -> None:
        self.clear()
        self._append(self._pieces)


class TextSide(QFrame):
    """One of the two: words above, text beneath."""

    def __init__(self, name: str, workbench: Workbench, *, speaks: bool, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        set_role(self, "card")
        self.head = Line(name)
        bold = self.head.font()
        bold.setBold(True)
        self.head.setFont(bold)
        self.text = TokenText(name, workbench)
        line = self.text.fontMetrics().lineSpacing()
        self.text.setMinimumHeight(LEAST * line + S)
        self.text.setMaximumHeight(MOST * line + S)
        whole = QVBoxLayout(self)
        whole.setContentsMargins(M, S, S, S)
        whole.setSpacing(S)
        whole.addWidget(self.head)
        whole.addWidget(self.text, 1)
        self.veil = Veil(self.text, workbench, speaks=speaks)
        self.say(name)

    def say(self, words: str) -> None:
        """Change the words above."""
        self.head.say(words)
        self.text.setAccessibleName(words)


class TwoTexts(QWidget):
    """The text without steering and the one with it."""

    def __init__(self, workbench: Workbench, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Maximum)
        self.clean = TextSide(CLEAN, workbench, speaks=False)
        self.steered = TextSide(STEERED, workbench, speaks=True)
        whole = QHBoxLayout(self)
        whole.setContentsMargins(0, 0, 0, 0)
        whole.setSpacing(M)
        whole.addWidget(self.clean, 1)
        whole.addWidget(self.steered, 1)

    def lay_over(self, notice: QWidget) -> None:
        """Show ``notice``, whenever it is visible, on the lower part of both texts."""
        notice.setParent(self)
        notice.installEventFilter(self)
        self._over = notice

    _over: QWidget | None = None

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        if event.type() in (QEvent.Type.Show, QEvent.Type.Hide, QEvent.Type.LayoutRequest):
            self._place_over()
        return super().eventFilter(watched, event)

    def resizeEvent(self, event: QResizeEvent) -> None:
        super().resizeEvent(event)
        self._place_over()

    def _place_over(self) -> None:
        if self._over is not None:
            inner = self.rect().adjusted(S, S, -S, -S)
            layout = self._over.layout()
            wanted = self._over.sizeHint().height() if layout is None else layout.totalHeightForWidth(inner.width())
            tall = max(wanted, self._over.minimumSizeHint().height())
            self.setMinimumHeight(tall + 2 * S if self._over.isVisibleTo(self) else 0)  # details may want more
            self._over.setGeometry(inner.left(), inner.bottom() + 1 - tall, inner.width(), tall)
            self._over.raise_()

    def show_clean(self, prompt: str, tokens: Sequence[str], marks: Sequence[bool], *, words: bool) -> None:
        """Show the text without steering."""
        self.clean.text.show_tokens(prompt, tokens, marks, words=words)
        self.clean.veil.set_waiting(False)

    def show_steered(
        self, prompt: str, tokens: Sequence[str], marks: Sequence[bool], strength: float, *, words: bool
    ) -> None:
        """Show the text with steering at ``strength``."""
        self.steered.text.show_tokens(prompt, tokens, marks, words=words)
        self.steered.say(f"{STEERED}, strength {signed(strength)}")
        self.steered.veil.set_waiting(False)

    def set_waiting(self, *, clean: bool, steered: bool, silent: bool = False) -> None:
        """Dim what is about to be another text; ``silent`` where nothing is on its way."""
        for side, waiting in ((self.clean, clean), (self.steered, steered)):
            side.veil.set_waiting(waiting and bool(side.text.pieces), silent=silent)
