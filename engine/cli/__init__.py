"""The command line: the same engine as the window's, with a progress bar instead of a window."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

DONE, FAILED, WRONG_USE, INTERRUPTED = 0, 1, 2, 130


def main(arguments: list[str]) -> int:
    """Carry out ``superscope ARGUMENTS``; returns the exit status: 0 done, 1 failed, 2 wrong use, 130 interrupted."""
    if arguments[:1] == ["--engine-process"]:
        from engine.runs import process

        status = process.main(_restore)
        sys.stderr.flush()
        os._exit(status)  # threads may still be inside torch, which does not survive an orderly end
    if arguments[:1] == ["--save-session"]:
        from engine.session import saving

        # Ctrl+C in the terminal goes to child processes too; who started the save decides.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        os._exit(saving.main(arguments[1:]))  # HDF5 would write again at exit what a full disk refused
    from engine.cli import verbs

    return verbs.main(arguments)


def _restore(work: Path, run: str) -> None:
    from engine.session import restore_recording  # needs h5py, which most engines never do

    restore_recording(work, run)
