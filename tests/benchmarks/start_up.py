"""From the start of the process to the first paint of the window: goal 0.7 s, at most 1.0 s, warm.

Beside it, in turns, a bare `QMainWindow` from the same interpreter, as what Qt and Python cost by
themselves. `python -m tests.benchmarks.start_up`
"""

from __future__ import annotations

import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROUNDS = 7
GOAL, LIMIT = 0.7, 1.0
BARE = """
import sys, time
from pathlib import Path
from PySide6.QtCore import QTimer
from PySide6.QtWidgets import QApplication, QMainWindow
from app.main import _age
application = QApplication([])
window = QMainWindow()
window.resize(1280, 800)
window.show()
def done():
    Path(sys.argv[1]).write_text(f"{_age():.3f} ")
    application.quit()
QTimer.singleShot(0, done)
application.exec()
"""


def first_paint(command: list[str], environment: dict[str, str], trace: Path) -> tuple[float, str]:
    """Seconds to the first paint, and the heavy libraries that were loaded by then."""
    trace.unlink(missing_ok=True)
    process = subprocess.Popen([*command, str(trace)], env=environment, stderr=subprocess.DEVNULL)
    try:
        end = time.monotonic() + 60
        while not trace.exists() and time.monotonic() < end and process.poll() is None:
            time.sleep(0.02)
        seconds, _, heavy = trace.read_text().partition(" ")
        return float(seconds), heavy.strip()
    finally:
        if process.poll() is None:
            time.sleep(0.5)  # let it get as far as its engine, so that it ends in order
            process.send_signal(signal.SIGINT)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def main() -> int:
    with tempfile.TemporaryDirectory() as folder:
        environment = dict(os.environ, SUPERSCOPE_HOME=folder)
        environment.setdefault("QT_QPA_PLATFORM", "offscreen")
        trace = Path(folder) / "trace"
        window = [sys.executable, "-m", "app.main", "--trace-start"]
        bare = [sys.executable, "-c", BARE]
        first_paint(window, environment, trace)  # warms the file cache
        times: dict[str, list[float]] = {"window": [], "bare Qt window": []}
        loaded = set()
        for _ in range(ROUNDS):
            seconds, heavy = first_paint(window, environment, trace)
            times["window"].append(seconds)
            loaded.add(heavy)
            times["bare Qt window"].append(first_paint(bare, environment, trace)[0])
        for name, values in times.items():
            print(f"{name:16} {statistics.median(values):.2f} s  ({min(values):.2f}–{max(values):.2f}, n = {ROUNDS})")
        median = statistics.median(times["window"])
        print(f"goal {GOAL} s, at most {LIMIT} s: {'reached' if median <= GOAL else 'missed'}")
        print(f"loaded before the first paint: {', '.join(sorted(loaded - {''})) or 'none of torch, pyqtgraph, h5py'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
