"""The help page of the keyboard, made from the command registry: `python -m app.window.keyboard` writes it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from engine import files, places

if TYPE_CHECKING:
    from app.commands import CommandRegistry

EVERYWHERE = """## Lists, tabs, forms

| keys | what |
|---|---|
| Tab, Shift+Tab | the next, the previous control |
| arrow keys | move in lists, trees, token strips and maps |
| Enter | open what is selected; in the list of experiments, show its form |
| Shift+arrows, Ctrl+click | select several runs |
| Escape | close the palette or a list of suggestions |
"""


def path() -> Path:
    """Where the page lies."""
    return places.resources() / "help" / "keyboard.md"


def page(registry: CommandRegistry) -> str:
    """The page as Markdown: commands with a shortcut by group, then those without."""
    groups: dict[str, list[str]] = {}
    plain: list[str] = []
    for command in registry:
        if command.shortcut:
            row = f"| {command.shortcut} | {command.title} | {command.help} |"
            groups.setdefault(command.group, []).append(row)
        else:
            plain.append(f"- **{command.title}**: {command.help}")
    parts = ["# Keyboard", "Ctrl+K finds every action by name, those without keys too. On a Mac, Ctrl is Command."]
    for group, rows in groups.items():
        parts.append(f"## {group}\n\n| keys | action | what it does |\n|---|---|---|\n" + "\n".join(rows))
    parts += [EVERYWHERE.strip(), "## Without keys\n\n" + "\n".join(plain)]
    return "\n\n".join(parts) + "\n"


def main() -> int:
    """Write the page from the commands of a window that is never shown."""
    from PySide6.QtWidgets import QApplication

    from app.window.main_window import MainWindow
    from app.workbench import Workbench

    application = QApplication(["superscope"])
    workbench = Workbench()
    window = MainWindow(workbench)
    files.write_bytes(path(), page(workbench.commands).encode(), durable=False)
    window.deleteLater()
    application.processEvents()
    return 0


if __name__ == "__main__":
    sys.exit(main())
