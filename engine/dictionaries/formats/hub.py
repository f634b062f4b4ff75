"""Dictionaries from the Hugging Face hub: plain tensors and configs only, the folder that was named and no more."""

from __future__ import annotations

import contextlib
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from engine.dictionaries.errors import DictionaryError
from engine.dictionaries.references import Reference, held, inside
from engine.models import hub, memory
from engine.models.convert import require_disk
from engine.models.references import hub_folder

if TYPE_CHECKING:
    from engine.runs.run import Run

CONFIGS = ("cfg.json", "config.json", "config.yaml", "activation_scaler.json")
WEIGHTS = (".safetensors", ".npz")
MOST = 64  # dictionaries fetched at once; a release has hundreds
LEFT_OUT = ("sparsity.safetensors", "activations_store_state.safetensors", "model.safetensors")


def downloaded(reference: Reference, run: Run | None = None) -> Path:
    """The folder at the hub that ``reference`` names, fetched into the hub's cache where it is not there yet.

    Raises:
        DictionaryError: there is no dictionary in it, it is stored as a pickle, or there are too many.
        ModelError: there is no network or no such repository, or it does not fit into memory.
        DiskError: there is no room for it.
    """
    here = _snapshot(reference)
    if here is not None:
        return here
    name, folder = reference.value, PurePosixPath(reference.folder)
    if run is not None:
        run.stage(f"Asking the hub for {name}")
    info = hub.ask(name)
    files = [(str(file.rfilename), int(file.size or 0)) for file in info.siblings]
    wanted = _wanted(reference, files)
    total = sum(size for _, size in wanted)
    memory.require(2 * total, "cpu", what=f"Opening {reference.text}")
    require_disk(hub_folder(name), total + 20_000_000)
    if run is not None:
        run.stage(f"Fetching {reference.text}")
    done = 0
    root = Path()
    for file, size in wanted:
        if run is not None:
            run.point()
        path = Path(hub.fetch(name, inside(name, file), info.sha, run, done, total))
        root = path.parents[len(PurePosixPath(file).parts) - 1]
        done += size
    return root / folder


def _snapshot(reference: Reference) -> Path | None:
    """The folder, or file, in the hub's cache, where it is one dictionary that is there already."""
    place = hub_folder(reference.value)
    commits: list[str] = []
    with contextlib.suppress(OSError):
        commits.append((place / "refs" / "main").read_text("utf-8").strip())
    with contextlib.suppress(OSError):
        newest_first = sorted((place / "snapshots").iterdir(), key=lambda folder: -folder.stat().st_mtime)
        commits += [folder.name for folder in newest_first]
    for commit in commits:
        wanted = place / "snapshots" / commit / reference.folder
        with contextlib.suppress(OSError, DictionaryError):
            found = held(wanted)
            # Of several, some may not have been fetched; only the hub knows.
            alone = len(found) == 1 and (wanted == found[0].file or found[0].format != "circuit-tracer")
            if reference.folder and alone and wanted in (found[0].file, found[0].file.parent):
                return wanted
    return None


def _wanted(reference: Reference, files: list[tuple[str, int]]) -> list[tuple[str, int]]:
    """The files to fetch with their sizes in bytes, small ones first."""
    below = [entry for entry in files if _below(entry[0], reference.folder)]
    weights = [
        (file, size) for file, size in below if file.endswith(WEIGHTS) and PurePosixPath(file).name not in LEFT_OUT
    ]
    if not below:
        raise DictionaryError(f"{reference.value} has no folder {reference.folder} at the hub; check its name there.")
    if not weights:
        pickled = next((file for file, _ in below if file.endswith((".pt", ".pth", ".bin", ".ckpt"))), None)
        if pickled is not None:
            raise DictionaryError(
                f"{reference.text} has its weights only as a pickle ({pickled}), which can run code when it is read, "
                "so it is not fetched; choose a repository with safetensors or npz files."
            )
        raise DictionaryError(f"{reference.text} has no dictionary at the hub: no safetensors or npz file is there.")
    if len(weights) > MOST:
        example = PurePosixPath(weights[0][0]).parent
        raise DictionaryError(
            f"{reference.text} has {len(weights):,} files of weights at the hub; name one folder, "
            f"as in {reference.value}:{example}."
        )
    folders = {str(parent) for file, _ in weights for parent in PurePosixPath(file).parents}
    configs = [
        (file, size)
        for file, size in files
        if PurePosixPath(file).name in CONFIGS and str(PurePosixPath(file).parent) in folders
    ]
    return sorted(configs + weights, key=lambda entry: entry[1])


def _below(file: str, folder: str) -> bool:
    return not folder or file == folder or file.startswith(folder + "/")
