"""A process that trains with one library, a step at a time: ``python -m tests.benchmarks.peers.worker LIBRARY CASE``.

Each line on stdin asks for one step; the answer is a line ``seconds l0``: what the step took, and how many latents
were active per activation (counted after the clock has stopped).
"""

from __future__ import annotations

import argparse
import importlib
import sys
import time

import torch

from tests.benchmarks.peers.cases import CASES, start


def main() -> int:
    """Answer until stdin ends."""
    parser = argparse.ArgumentParser()
    parser.add_argument("library")
    parser.add_argument("case", choices=[case.name for case in CASES])
    parser.add_argument("--threads", type=int, default=2)
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    case = next(case for case in CASES if case.name == asked.case)
    begin = start(case)
    answers, sys.stdout = sys.stdout, sys.stderr  # what a library prints is no answer
    run = importlib.import_module(f"tests.benchmarks.peers.library_{asked.library}").trainer(case, begin)
    batches = begin.x.split(case.batch)
    print("ready", file=answers, flush=True)
    for number, _ in enumerate(sys.stdin):
        began = time.perf_counter()
        count = run(batches[number % 2])
        seconds = time.perf_counter() - began
        print(seconds, count() / case.batch, file=answers, flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
