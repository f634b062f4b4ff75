"""Markdown in a text browser, set as a page is: room above headings, quiet tables, lines of readable length."""

from __future__ import annotations

import re

from PySide6.QtGui import (
    QFont,
    QTextBlockFormat,
    QTextCharFormat,
    QTextCursor,
    QTextFormat,
    QTextFrameFormat,
    QTextLength,
    QTextTable,
)
from PySide6.QtWidgets import QTextBrowser

from app.theme import READABLE, XL, XS, L, M, S, Theme, body, mono

MARKS = re.compile(r"`|(?<!\w)\*{1,2}(?=\w)|(?<=[\w.?!])\*{1,2}(?!\w)")  # of code and emphasis, not of a product
LARGE = 1.25  # size of the first heading, in sizes of the body; the others are bold, the third muted


def show(browser: QTextBrowser, text: str, theme: Theme) -> None:
    """Show ``text`` in the theme's colours; the place in the page stays."""
    place = browser.verticalScrollBar().value()
    document = browser.document()
    document.setDefaultFont(body())
    document.setDocumentMargin(XL)
    browser.setMarkdown(text)
    block = document.begin()
    while block.isValid():
        level = block.blockFormat().headingLevel()
        cursor = QTextCursor(block)
        if level:
            form = QTextBlockFormat()
            form.setTopMargin(0 if block.blockNumber() == 0 else XL if level < 3 else L)
            form.setBottomMargin(S)
            cursor.mergeBlockFormat(form)
            cursor.select(QTextCursor.SelectionType.BlockUnderCursor)
            letters = cursor.charFormat()
            letters.clearProperty(QTextFormat.Property.FontSizeAdjustment.value)  # it wins over a size
            letters.setFontPointSize(body().pointSizeF() * (LARGE if level == 1 else 1.0))
            letters.setFontWeight(QFont.Weight.DemiBold)
            if level > 2:
                letters.setForeground(theme.muted)
            cursor.setCharFormat(letters)
        elif cursor.currentTable() is None:
            form = QTextBlockFormat()
            form.setBottomMargin(XS if block.textList() else S)
            form.setLineHeight(125, QTextBlockFormat.LineHeightTypes.ProportionalHeight.value)
            cursor.mergeBlockFormat(form)
        fragments = block.begin()
        while not fragments.atEnd():
            fragment = fragments.fragment()
            if fragment.charFormat().fontFixedPitch():
                part = QTextCursor(document)
                part.setPosition(fragment.position())
                part.setPosition(fragment.position() + fragment.length(), QTextCursor.MoveMode.KeepAnchor)
                letters = QTextCharFormat()
                letters.setFontFamilies(mono().families() or [mono().family()])
                part.mergeCharFormat(letters)
            fragments += 1
        block = block.next()
    for frame in document.rootFrame().childFrames():
        if isinstance(frame, QTextTable):
            _dress_table(frame, theme)
    outer = document.rootFrame().frameFormat()
    outer.setRightMargin(max(XL, browser.viewport().width() - READABLE - 2 * XL) if not _has_table(browser) else XL)
    document.rootFrame().setFrameFormat(outer)
    browser.verticalScrollBar().setValue(place)


def plain(text: str) -> str:
    """One paragraph of Markdown as words on one line: without the marks of code and emphasis."""
    return MARKS.sub("", " ".join(text.split()))


def _has_table(browser: QTextBrowser) -> bool:
    return any(isinstance(frame, QTextTable) for frame in browser.document().rootFrame().childFrames())


def _dress_table(table: QTextTable, theme: Theme) -> None:
    form = table.format()
    form.setBorder(1)
    form.setBorderBrush(theme.line)
    form.setBorderStyle(QTextFrameFormat.BorderStyle.BorderStyle_Solid)
    form.setBorderCollapse(True)
    form.setCellPadding(XS)
    form.setCellSpacing(0)
    form.setTopMargin(S)
    form.setBottomMargin(M)
    form.setWidth(QTextLength(QTextLength.Type.PercentageLength, 100))
    table.setFormat(form)
    for column in range(table.columns()):
        cell = table.cellAt(0, column)
        head = cell.format()
        head.setBackground(theme.panel)
        cell.setFormat(head)
