"""What a model needs before it is opened, from headers alone: parameters, memory, what has to be fetched. Torch-free."""

from __future__ import annotations

from engine import places
from engine.models import memory, references
from engine.models.errors import ModelError

SMOLLM2_PARAMETERS = 134_515_008


def of_model(reference: str) -> str:
    """``135 M parameters, about 1.0 GB of memory of 21 GB that are free. 93 MB are fetched first.``

    "" where nothing can be said before it is opened.

    Raises:
        ModelError: the reference cannot be opened: no such file, cut short, no model.
    """
    parsed = references.parse(reference)
    fetched = ""
    if parsed.kind == "smollm2":
        parameters = SMOLLM2_PARAMETERS
        if references.marker(references.converted_folder(parsed)) is None:
            fetched = "About 93 MB are fetched and converted first; the next opening takes seconds."
    elif parsed.kind == "demo":
        parameters = _demo_parameters()
    elif parsed.kind == "gguf":
        from pathlib import Path

        from engine.models.gguf_header import read_header

        parameters = read_header(Path(parsed.value)).parameters
        if references.marker(references.converted_folder(parsed)) is None:
            fetched = "It is converted first; the next opening takes seconds."
    elif parsed.kind == "folder":
        from pathlib import Path

        from engine.models.folder import inspect

        parameters = inspect(Path(parsed.value)).parameters
    elif parsed.kind == "hub" and not references.hub_folder(parsed.value).is_dir():
        return "It is looked up on the Hugging Face hub when it is opened; its size is checked before it is fetched."
    else:
        return ""
    wanted, free = memory.needed(parameters, "float32"), memory.available()
    sentence = (
        f"{_count(parameters)} parameters, about {memory.in_words(wanted)} of memory; {memory.in_words(free)} are free."
    )
    if wanted > free:
        raise ModelError(f"{sentence} Close other programs or choose a smaller model.")
    return f"{sentence} {fetched}".strip()


def _demo_parameters() -> int:
    import json
    import struct

    path = places.resources() / "demo" / "model.safetensors"
    try:
        with open(path, "rb") as content:
            header = json.loads(content.read(struct.unpack("<Q", content.read(8))[0]))
    except (OSError, ValueError, struct.error) as problem:
        raise ModelError("The demo model is missing from this installation; install Superscope again.") from problem
    total = 0
    for name, tensor in header.items():
        if name != "__metadata__":
            size = 1
            for length in tensor["shape"]:
                size *= length
            total += size
    return total


def _count(parameters: int) -> str:
    for unit, scale in (("billion", 1e9), ("million", 1e6), ("thousand", 1e3)):
        if parameters >= scale:
            number = parameters / scale
            return f"{number:.1f} {unit}" if number < 10 else f"{number:,.0f} {unit}"
    return str(parameters)
