"""The steering bench in words: its methods, places and prompt sets, and which choice matters for which method.

Free of Qt.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

# Words, value of the parameter, tool tip.
METHODS = (
    ("Difference of means", "mean-difference", "Add the mean of the positive rows less that of the negative ones"),
    ("Affine: match means", "affine-mean", "Move the negative rows' mean onto the positive ones'"),
    (
        "Affine: match means and covariances",
        "affine-gaussian",
        "The shortest map that gives the negative rows the mean and covariance of the positive ones",
    ),
    ("Affine: least squares", "affine-least-squares", "The affine map that takes each negative row to its positive"),
    ("Circular", "circular", "Turn in the planes in which a cyclic label, such as a day, lies on a circle"),
    ("Learned", "learned", "A small network that a run of learned-steering has trained"),
    ("Add a latent", "feature-add", "Add the decoder vector of one latent of a dictionary"),
    ("Clamp a latent", "feature-clamp", "Hold one latent of a dictionary at a value"),
    ("Ablate the direction", "ablate", "Remove the difference of means; strength 1 removes it whole"),
    ("Random direction (control)", "random", "A random direction as long as the difference of means"),
)
READ_AT = (
    ("End of the row", "end", "Activations are read at the last token of a row, of its suffix where it has one"),
    ("Answer", "answer", "Activations are averaged over the tokens of the completion"),
    ("Prompt", "prompt", "Activations are read at the last token of the prompt, for sets with labels"),
)
POSITIONS = (
    ("All tokens", "all", "Activations change at every token but BOS"),
    ("Prompt's last", "last", "Activations change at the last token of the prompt alone"),
    ("Answer", "answer", "Activations change at the prompt's last token and at each one generated after it"),
)
LATENT = ("feature-add", "feature-clamp")
LABELLED = ("circular", "learned")
DIRECTED = ("mean-difference", "affine-mean", "affine-gaussian", "affine-least-squares", "circular", "ablate", "random")
# Which parameters matter for which methods only; every other one matters always.
ONLY_FOR = {"read_at": DIRECTED, "dictionary": LATENT, "latent": LATENT, "learned": ("learned",), "target": LABELLED}


def matters(parameter: str, method: str) -> bool:
    """Whether ``parameter`` changes anything for ``method``."""
    return parameter not in ONLY_FOR or method in ONLY_FOR[parameter]


def prompts_title(reference: str) -> str:
    """What a prompt set is called: built-in sets by their name, a file by its own, rows by that word."""
    from engine.text.prompt_templates import DEFAULT_MODULUS
    from engine.text.prompts import BUILT_IN, is_rows

    if is_rows(reference):
        return "Edited rows"
    if reference in BUILT_IN:
        return BUILT_IN[reference]
    if reference.startswith("sums"):
        return f"Sums modulo {reference.partition('#')[2] or DEFAULT_MODULUS}"
    return reference.removeprefix("prompts:") if reference.startswith("prompts:") else Path(reference).name


def usual_choices(model: str, attributes: Mapping[str, Any]) -> dict[str, Any]:
    """What to begin with: a prompt set in words that the model knows, and where it needs them method and place.

    ``attributes`` are what the session knows of a toy. Sums modulo ``p`` are cyclic, and behind them such a toy has no
    room to read at.
    """
    if type(attributes.get("p")) is int:
        return {"prompts": f"sums#{attributes['p']}", "method": "circular", "read_at": "prompt", "positions": "last"}
    return {"prompts": "story-sentiment" if model.startswith(("demo", "toy:")) else "sentiment"}


def split_hook(name: str) -> tuple[int | None, str]:
    """Layer and rest of a hook point: ``blocks.3.hook_resid_post`` is (3, "hook_resid_post"); None outside blocks."""
    first, _, rest = name.partition(".")
    layer, _, stream = rest.partition(".")
    return (int(layer), stream) if first == "blocks" and layer.isdigit() and stream else (None, name)


def hook_name(stream: str, layer: int, streams: Sequence[str]) -> str:
    """The hook point of ``stream``, in block ``layer`` where it is one of the blocks' ``streams``."""
    return f"blocks.{layer}.{stream}" if stream in streams else stream


def signed(value: float) -> str:
    """A strength with its sign: ``+1.2``, ``0``, ``-0.35``."""
    text = f"{round(value, 3):+g}"
    return "0" if text in ("+0", "-0") else text


def are_words(tokens: Sequence[str]) -> bool:
    """Whether each token is a whole word, so that a space belongs between two of them.

    Other tokens bring their spaces with them; of fewer than three nobody can tell, and they are taken as such.
    """
    known = [token for token in tokens if token]
    return len(known) >= 3 and not any(token[:1].isspace() or token[-1:].isspace() for token in known)
