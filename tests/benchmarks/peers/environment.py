"""The peers' own virtual environment, ``build/peers``: sae-lens needs transformer-lens < 4, so it cannot share ours.

``python -m tests.benchmarks.peers.environment`` builds it if it is missing and prints its interpreter.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import venv
from importlib.metadata import version
from pathlib import Path

HOME = Path(__file__).parents[3] / "build" / "peers"
PEERS = ("sae-lens", "dictionary-learning", "eai-sparsify")
STAMP = ".installed"
REQUIREMENTS = (
    f"torch=={version('torch').split('+')[0]}",  # ours: the libraries differ, the matrix routines do not
    "sae-lens==6.54.12",
    "transformer-lens<4",
    "dictionary-learning==0.1.0",
    "eai-sparsify==1.3.3",
)


def python() -> Path:
    """The interpreter of the peers' environment, which is built first if it is missing or out of date (minutes, 3 GB).

    Raises:
        RuntimeError: pip could not install the libraries; the message ends with its last lines.
    """
    interpreter = HOME / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    wanted = hashlib.sha256("\n".join((sys.version, *REQUIREMENTS)).encode()).hexdigest()
    stamp = HOME / STAMP
    if interpreter.exists() and stamp.exists() and stamp.read_text() == wanted:
        return interpreter
    print(f"Installing {', '.join(REQUIREMENTS)} into build/peers", file=sys.stderr)
    venv.create(HOME, with_pip=True, clear=True)
    # nnsight asks for torchvision, whose CUDA build refuses a CPU torch, and transformers then imports nothing.
    for command in (("install", "--quiet", *REQUIREMENTS), ("uninstall", "--quiet", "--yes", "torchvision")):
        pip = [str(interpreter), "-m", "pip", *command]
        done = subprocess.run(pip, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
        if done.returncode:
            raise RuntimeError("The peers could not be installed: " + "\n".join(done.stdout.splitlines()[-5:]))
    stamp.write_text(wanted)
    return interpreter


def environment() -> dict[str, str]:
    """What a process of that environment gets: this process' variables, no Triton, nothing asked of a hub or W&B."""
    return {
        **os.environ,
        "SPARSIFY_DISABLE_TRITON": "1",
        "WANDB_MODE": "disabled",
        "TOKENIZERS_PARALLELISM": "false",
    }


if __name__ == "__main__":
    print(python())
