"""De-quantise a GGUF file once into a model folder that opens in seconds."""

from __future__ import annotations

import hashlib
import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine import files
from engine.models import memory
from engine.models.errors import ModelError
from engine.models.folder import inspect
from engine.models.gguf_header import GgufHeader, read_header
from engine.models.references import Reference, converted_folder, marker, write_marker

if TYPE_CHECKING:
    from engine.runs.run import Run

FLOAT32 = 4
PEAK = 2.0  # memory at the peak of a conversion in units of the float32 weights; 1.75 measured on SmolLM2


def converted(reference: Reference, run: Run | None = None) -> Path:
    """The folder with the converted copy of a GGUF file, which is made if there is none yet.

    A file that changed (its size or date) is converted again.

    Raises:
        ModelError: the file is missing, damaged or cut short, of an unknown architecture, or too large for memory.
        DiskError: the disk has no room for the copy; nothing of it is left.
    """
    path = Path(reference.value)
    header = read_header(path)
    stat = path.stat()
    folder = converted_folder(reference)
    found = marker(folder) or {}
    if (found.get("size"), found.get("modified")) == (stat.st_size, stat.st_mtime_ns) and is_whole(folder):
        return folder
    values = {
        "kind": "gguf",
        "source": str(path.absolute()),
        "size": stat.st_size,
        "modified": stat.st_mtime_ns,
        "sha256": sha256(path, run),
    }
    convert(path, header, folder, values, run)
    return folder


def convert(path: Path, header: GgufHeader, folder: Path, values: dict[str, Any], run: Run | None = None) -> None:
    """De-quantise the GGUF file ``path`` to float32 and write it to ``folder`` as safetensors with its tokenizer.

    ``values`` go into the marker that makes the folder complete. Stop takes effect between tensors.

    Raises:
        ModelError, DiskError: as `converted` says.
    """
    needed = header.parameters * FLOAT32
    memory.require(int(needed * PEAK), "cpu", what=f"Converting {path.name}")
    require_disk(folder, needed + 20_000_000)
    if run is not None:
        run.stage(f"Converting {path.name}")
    model, tokenizer = _load(path, header, run)
    if run is not None:
        run.stage(f"Storing {path.name}")
    with files.replacing_folder(folder) as temporary:
        _save(model, tokenizer, temporary)
        write_marker(temporary, values | {"created": time.time(), "parameters": header.parameters})
        if run is not None:
            run.point()


def is_whole(folder: Path) -> bool:
    """Whether a converted folder can be opened; one that was damaged since is made again."""
    try:
        inspect(folder)
    except ModelError:
        return False
    return True


def sha256(path: Path, run: Run | None = None) -> str:
    """The file's SHA-256 as hexadecimal digits; Stop takes effect every 16 MB. Raises `ModelError`."""
    digest = hashlib.sha256()
    try:
        with open(path, "rb") as file:
            while block := file.read(1 << 24):
                digest.update(block)
                if run is not None:
                    run.point()
    except OSError as problem:
        raise ModelError(f"{path} cannot be read ({problem.strerror or problem}); choose another file.") from problem
    return digest.hexdigest()


def require_disk(folder: Path, needed: int) -> None:
    """Refuse before work is spent when the disk of ``folder`` has less than ``needed`` bytes free.

    Raises:
        DiskError: it has; the sentence gives both numbers.
    """
    place = folder
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free
    if free < needed:
        raise files.DiskError(
            f"{folder.name} needs {memory.in_words(needed)} in {folder.parent}, where {memory.in_words(free)} are free; "
            "free some space or set SUPERSCOPE_HOME to a larger disk."
        )


def _load(path: Path, header: GgufHeader, run: Run | None) -> tuple[Any, Any]:
    import torch
    import transformers

    from engine.models.quiet import gguf_progress, quiet

    options: dict[str, Any] = {"gguf_file": path.name, "dtype": torch.float32, "attn_implementation": "eager"}
    if hasattr(transformers, "GgufConfig"):
        # Newer transformers else keep the weights packed and may fetch kernels for them from the hub.
        options["quantization_config"] = transformers.GgufConfig(gguf_file=path.name, dequantize=True)

    def report(done: int, total: int) -> None:
        if run is not None:
            run.point()
            run.progress(done, total, "tensors")

    try:
        with quiet(), gguf_progress(report):
            tokenizer = transformers.AutoTokenizer.from_pretrained(str(path.parent), gguf_file=path.name)
            if run is not None:
                run.point()
            model = transformers.AutoModelForCausalLM.from_pretrained(str(path.parent), **options)
    except (ValueError, KeyError, NotImplementedError, OSError, RuntimeError, TypeError, AttributeError) as problem:
        raise ModelError(
            f"{path.name} cannot be converted: transformers {transformers.__version__} does not read GGUF files of the "
            f"architecture {header.architecture or 'that this one has'} ({_first_line(problem)}); "
            "use the model's Hugging Face folder or hub id."
        ) from problem
    packed = [name for name, weight in model.named_parameters() if not weight.is_floating_point()]
    if packed:
        raise ModelError(f"{path.name} was not de-quantised ({packed[0]}); use the model's Hugging Face folder.")
    return model, tokenizer


def _save(model: Any, tokenizer: Any, folder: Path) -> None:
    import errno

    import safetensors

    from engine.models.quiet import quiet

    # What is stored is plain float32: without this, transformers refuses to save and later to load it.
    model.hf_quantizer = None
    for config in {id(model.config): model.config}.values():
        if hasattr(config, "quantization_config"):
            del config.quantization_config
    try:
        with quiet():
            model.save_pretrained(folder)
            tokenizer.save_pretrained(folder)
    except safetensors.SafetensorError as problem:
        # safetensors writes in Rust and puts the system's error into words only.
        code = errno.ENOSPC if "os error 28" in str(problem) else errno.EIO
        raise OSError(code, str(problem)) from problem


def _first_line(problem: BaseException) -> str:
    lines = str(problem).strip().splitlines()
    text = lines[0] if lines else type(problem).__name__
    return text if len(text) <= 160 else text[:159] + "…"
