"""The program: the window, or the command line where a verb is given. Never imports torch itself."""

from __future__ import annotations

import difflib
import os
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from app.window.main_window import MainWindow
    from app.workbench import Workbench

VERBS = ("list", "run", "resume", "show", "export", "models")
PASSED_ON = ("--version", "--self-test", "--help", "-h", "--engine-process", "--save-session")


@dataclass
class Wanted:
    """What the window was asked for.

    Attributes:
        session: the session to open.
        demo: open the demo session as an unsaved copy.
        trace: file to write the seconds from the start of the process to the first paint to.
    """

    session: Path | None = None
    demo: bool = False
    trace: Path | None = None


def main(argv: list[str] | None = None) -> int:
    """``superscope [SESSION]`` or ``superscope VERB …``. Returns the exit status."""
    arguments = sys.argv[1:] if argv is None else argv
    if arguments and (arguments[0] in VERBS or arguments[0] in PASSED_ON):
        from engine.cli import main as command_line

        return command_line(arguments)
    wanted = read(arguments)
    if isinstance(wanted, str):
        print(f"superscope: {wanted}", file=sys.stderr)
        return 2
    return open_window(wanted)


def read(arguments: list[str]) -> Wanted | str:
    """What the arguments of the window ask for, or the sentence that says what is wrong with them."""
    wanted = Wanted()
    rest = list(arguments)
    while rest:
        word = rest.pop(0)
        if word == "--demo":
            wanted.demo = True
        elif word == "--trace-start" and rest:
            wanted.trace = Path(rest.pop(0))
        elif word.startswith("-"):
            return f"{word} is not known; `superscope --help` shows what is."
        elif wanted.session is not None:
            return f"one session at a time can be opened, and {word} would be the second."
        else:
            wanted.session = Path(word)
    if wanted.session is not None and not wanted.session.exists():
        near = difflib.get_close_matches(str(wanted.session), VERBS, n=1)
        hint = f"did you mean `superscope {near[0]}`?" if near else "`superscope` alone begins an empty one."
        return f"there is no session {wanted.session}; {hint}"
    return wanted


def display_missing() -> bool:
    """Whether Qt has no screen to draw on: there it would end the process without a word to act on."""
    if not sys.platform.startswith("linux") or os.environ.get("QT_QPA_PLATFORM"):
        return False
    return not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


def open_window(wanted: Wanted) -> int:
    """Show the window until it is closed. Returns the exit status."""
    off_screen = display_missing()
    if off_screen and not wanted.demo:
        print(
            "superscope: there is no display for the window; `superscope --help` shows what works without one.",
            file=sys.stderr,
        )
        return 1
    if off_screen:
        os.environ["QT_QPA_PLATFORM"] = "offscreen"
    try:
        from PySide6.QtCore import Qt
        from PySide6.QtWidgets import QApplication
    except ImportError as problem:
        print(
            f"superscope: the window needs PySide6, which cannot be loaded here ({problem}); "
            "everything else works from the command line, see `superscope --help`.",
            file=sys.stderr,
        )
        return 1
    from app import theme
    from app.workbench import Workbench

    QApplication.setAttribute(Qt.ApplicationAttribute.AA_DontShowIconsInMenus, False)
    application = QApplication(["superscope"])
    application.setApplicationName("superscope")
    application.setApplicationDisplayName("")
    application.setDesktopFileName("superscope")
    application.setStyle("Fusion")
    workbench = Workbench()
    theme.apply(application, workbench.theme)
    from app.window.main_window import MainWindow

    window = MainWindow(workbench)
    window.painted.connect(lambda: _after_first_paint(window, wanted))
    if off_screen:
        from app.off_screen import quieten, show_and_leave

        quieten()
        window.begun.connect(lambda: show_and_leave(window))
    sys.excepthook = _reporter(workbench)
    # Ctrl+C in the terminal closes the window without asking: the work folder keeps everything.
    signal.signal(signal.SIGINT, lambda *_: application.exit(0))
    window.show()
    status = application.exec()
    window.shut_down()
    sys.excepthook = sys.__excepthook__
    window.deleteLater()
    workbench.deleteLater()
    # Qt's objects go before the interpreter does, in an order of ours.
    application.processEvents()
    return status


def _after_first_paint(window: MainWindow, wanted: Wanted) -> None:
    if wanted.trace is not None:
        _write_trace(wanted.trace)
    if wanted.demo:
        from app.documents import demo

        window.begin(demo(), copy=True)
    else:
        window.begin(wanted.session.absolute() if wanted.session is not None else None)


def _age() -> float:
    """Seconds since this process was started."""
    if sys.platform == "linux":
        # psutil adds whole seconds of boot time, which makes it wrong by up to one.
        ticks = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])
        return time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")
    now = time.time()
    import psutil

    return float(now - psutil.Process().create_time())


def _write_trace(path: Path) -> None:
    age = _age()
    from engine import files

    heavy = [
        name for name in ("torch", "transformer_lens", "pydantic", "pyqtgraph", "h5py", "numpy") if name in sys.modules
    ]
    files.write_bytes(path, f"{age:.3f} {','.join(heavy)}\n".encode(), durable=False)


def _reporter(workbench: Workbench) -> Callable[[type[BaseException], BaseException, TracebackType | None], None]:
    def report(kind: type[BaseException], problem: BaseException, trace: TracebackType | None) -> None:
        sys.__excepthook__(kind, problem, trace)
        if not issubclass(kind, KeyboardInterrupt):
            workbench.report(problem)

    return report


if __name__ == "__main__":
    sys.exit(main())
