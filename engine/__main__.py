"""``python -m engine``: the command line without a window; also the entry of the child processes."""

from __future__ import annotations

import sys


def main() -> int:
    """Run what the arguments ask for; returns the exit status."""
    from engine.cli import main as command_line

    return command_line(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
