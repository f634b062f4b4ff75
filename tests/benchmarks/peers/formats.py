"""Formats against the libraries themselves: files they wrote, read by us, and files we wrote, read by them.

``python -m tests.benchmarks.peers.formats`` prints one line a case and exits 1 where latents or reconstructions
differ by more than `TOLERANCE`, or where something is refused, or not, that should not be, or be.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from engine.dictionaries.errors import DictionaryError
from engine.dictionaries.form import Dictionary, DictionaryConfig
from engine.dictionaries.formats import FORMATS, open_dictionary, write
from tests.benchmarks.peers import environment
from tests.benchmarks.peers.formats_worker import COUNT, D_OUT, WIDTH, D, K

TOLERANCE = 1e-5  # of the value where that is more than one
# Architectures of theirs that have no neutral form.
NOT_READ = {("saelens", "abstopk"), ("saelens", "matching pursuit"), ("sparsify", "groupmax")}
# Dictionaries of ours that a library has no class for.
NOT_WRITTEN = {
    "saelens": ("topk transcoder", "topk skip transcoder", "batchtopk without threshold"),
    "dictionary_learning": (
        "relu with layer norm", "topk transcoder", "topk skip transcoder", "relu transcoder", "jumprelu transcoder",
        "batchtopk transcoder", "relu skip transcoder", "jumprelu skip transcoder",
    ),
    "sparsify": (
        "relu", "relu not centred", "relu with unit atoms", "relu with layer norm", "batchtopk",
        "batchtopk without threshold", "jumprelu", "jumprelu not centred", "gated", "gated not centred",
        "relu transcoder", "jumprelu transcoder", "batchtopk transcoder", "relu skip transcoder",
        "jumprelu skip transcoder",
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Line:
    """What came of a case: largest differences of latents and reconstructions, or that it was refused."""

    library: str
    way: str
    case: str
    latents: float = 0.0
    output: float = 0.0
    active: float = 0.0
    refused: str = ""
    wrong: str = ""

    @property
    def good(self) -> bool:
        return not self.wrong and (bool(self.refused) or max(self.latents, self.output) <= TOLERANCE)

    def __str__(self) -> str:
        head = f"{'ok ' if self.good else 'BAD'} {self.library:20}{self.way:7}{self.case:36}"
        if self.wrong or self.refused:
            return head + (self.wrong or f"refused: {self.refused}")[:150]
        return f"{head}latents {self.latents:.1e}  output {self.output:.1e}  L0 {self.active:.1f}"


def main() -> int:
    """Print one line a case; 0 where all are good."""
    python, lines = environment.python(), []
    torch.manual_seed(0)
    for library in FORMATS:
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch)
            dictionaries = dict(_ours())
            lines += list(_written(library, folder, dictionaries))
            command = [str(python), "-m", "tests.benchmarks.peers.formats_worker", library, str(folder)]
            done = subprocess.run(command, env=environment.environment(), capture_output=True, text=True, check=False)
            if done.returncode:
                lines.append(Line(library, "", "", wrong=" ".join(done.stderr.splitlines()[-1:])))
            lines += [_compared(library, place, dictionaries) for place in sorted((folder / "ours").iterdir())]
            lines += [_read(library, place) for place in sorted((folder / "theirs").glob("*"))]
        for line in lines:
            if line.library == library:
                print(line, flush=True)
    bad = sum(not line.good for line in lines)
    print(f"{len(lines)} cases, {bad} bad; equal means within {TOLERANCE:g} of the larger of 1 and the value.")
    return 1 if bad else 0


def _ours() -> Iterator[tuple[str, Dictionary]]:
    """A dictionary of each kind that the neutral form has."""
    yield "relu", _made("relu")
    yield "relu not centred", _made("relu", centre=False)
    yield "relu with unit atoms", _made("relu", unit=True)
    yield "relu with layer norm", _made("relu", normalise="layer_norm")
    yield "topk", _made("topk")
    yield "topk not centred", _made("topk", centre=False)
    yield "batchtopk", _made("batchtopk", threshold=torch.full((WIDTH,), 0.7))
    yield "batchtopk without threshold", _made("batchtopk", threshold=-torch.ones(WIDTH))
    yield "jumprelu", _made("jumprelu")
    yield "jumprelu not centred", _made("jumprelu", centre=False)
    yield "gated", _made("gated")
    yield "gated not centred", _made("gated", centre=False)
    for activation in ("relu", "jumprelu"):
        yield f"{activation} transcoder", _made(activation, d_out=D_OUT, transcodes=True)
        yield f"{activation} skip transcoder", _made(activation, d_out=D_OUT, transcodes=True, skip=True)
    yield "batchtopk transcoder", _made("batchtopk", transcodes=True, threshold=torch.full((WIDTH,), 0.7))
    yield "topk transcoder", _made("topk", transcodes=True)
    yield "topk skip transcoder", _made("topk", transcodes=True, skip=True)


def _made(
    activation: str,
    *,
    centre: bool = True,
    d_out: int = D,
    transcodes: bool = False,
    skip: bool = False,
    unit: bool = False,
    threshold: torch.Tensor | None = None,
    normalise: str = "none",
) -> Dictionary:
    tensors = {"W_enc": torch.randn(D, WIDTH) / D**0.5, "W_dec": torch.randn(WIDTH, d_out) / 4}
    tensors |= {"b_enc": torch.randn(WIDTH) * 0.3, "b_dec": torch.randn(d_out) * 0.3}
    if unit:
        tensors["W_dec"] = tensors["W_dec"] / tensors["W_dec"].norm(dim=1, keepdim=True)
    if activation == "jumprelu":
        threshold = torch.randn(WIDTH).abs() / 2
    if threshold is not None:
        tensors["threshold"] = threshold
    if activation == "gated":
        tensors |= {"r_mag": torch.randn(WIDTH) * 0.3, "b_mag": torch.randn(WIDTH) * 0.3}
    if skip:
        tensors["W_skip"] = torch.randn(D, d_out) / D**0.5
    hooks = ("blocks.3.mlp.hook_in", "blocks.3.hook_mlp_out") if transcodes else ("blocks.3.hook_resid_post",) * 2
    k = K if "topk" in activation else None
    config = DictionaryConfig(
        activation, D, d_out, WIDTH, k, centre and not transcodes, activation, *hooks, "gpt2", normalise=normalise
    )
    return Dictionary(config, **tensors)


def _written(library: str, folder: Path, dictionaries: dict[str, Dictionary]) -> Iterator[Line]:
    """Write each of ours that the library has a class for; a line for each that it has not."""
    for case, dictionary in dictionaries.items():
        place = folder / "ours" / case
        expected = case in NOT_WRITTEN[library]
        try:
            write(dictionary, place / "files", library)
        except DictionaryError as problem:
            yield Line(library, "wrote", case, refused=str(problem), wrong="" if expected else str(problem))
            continue
        if expected:
            yield Line(library, "wrote", case, wrong="was written, but should have been refused")
        np.save(place / "x.npy", (torch.randn(COUNT, D) + 0.2).numpy())


def _compared(library: str, place: Path, dictionaries: dict[str, Dictionary]) -> Line:
    """What they read of ours."""
    if not (place / "output.npy").exists():
        said = (place / "error.txt").read_text() if (place / "error.txt").exists() else "was not read"
        return Line(library, "wrote", place.name, wrong=said)
    return _line(library, "wrote", place, dictionaries[place.name])


def _read(library: str, place: Path) -> Line:
    """What we read of theirs."""
    expected = (library, place.name) in NOT_READ
    try:
        (found,) = open_dictionary(place / "files")
    except DictionaryError as problem:
        return Line(library, "read", place.name, refused=str(problem), wrong="" if expected else str(problem))
    if expected:
        return Line(library, "read", place.name, wrong="was read, but should have been refused")
    return _line(library, "read", place, found.dictionary)


def _line(library: str, way: str, place: Path, dictionary: Dictionary) -> Line:
    x, latents, output = (np.load(place / f"{name}.npy") for name in ("x", "latents", "output"))
    ours = dictionary.encode(torch.from_numpy(x))
    rebuilt = dictionary.decode(ours, torch.from_numpy(x))
    active = float((latents != 0).sum(axis=1).mean())
    return Line(
        library, way, place.name, _apart(ours.dense().numpy(), latents), _apart(rebuilt.numpy(), output), active
    )


def _apart(ours: np.ndarray, theirs: np.ndarray) -> float:
    """The largest difference, in units of the value where that is more than one."""
    return float((np.abs(ours - theirs) / np.maximum(1, np.abs(theirs))).max())


if __name__ == "__main__":
    sys.exit(main())
