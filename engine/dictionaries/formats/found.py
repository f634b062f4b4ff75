"""What opening a file gives: a dictionary in the neutral form, and what the file says about it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from torch import Tensor

from engine.dictionaries.form import Dictionary

TRANSCODERS = ("transcoder", "skip-transcoder")
_BLOCK = re.compile(r"(?:^|[._])(?:layers|h|blocks|layer)[._](\d+)(?:[._](.*))?$")


@dataclass(frozen=True)
class Found:
    """A dictionary that was opened.

    Attributes:
        dictionary: in the neutral form.
        name: how its place calls it: the folder's name, or that of the hook point.
        format: of its files.
        facts: what its files say besides, as plain JSON values; ``note`` is a sentence for the person.
    """

    dictionary: Dictionary
    name: str
    format: str
    facts: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Parts:
    """Tensors of the neutral form on their way to or from a file's own conventions; see `Dictionary`."""

    W_enc: Tensor
    W_dec: Tensor
    b_enc: Tensor
    b_dec: Tensor
    threshold: Tensor | None = None
    r_mag: Tensor | None = None
    b_mag: Tensor | None = None
    W_skip: Tensor | None = None

    @staticmethod
    def of(dictionary: Dictionary) -> Parts:
        """The tensors of ``dictionary``."""
        return Parts(**dictionary.tensors())

    def tensors(self) -> Mapping[str, Tensor]:
        """Those that are there, by name."""
        return {name: value for name, value in vars(self).items() if value is not None}

    def scaled_latents(self, factor: Tensor) -> Parts:
        """The same reconstructions with each latent ``factor`` (F,) times as large."""
        return replace(
            self,
            W_enc=self.W_enc * factor,
            W_dec=self.W_dec / factor[:, None],
            b_enc=self.b_enc * factor,
            threshold=None if self.threshold is None else self.threshold * factor,
            b_mag=None if self.b_mag is None else self.b_mag * factor,
        )

    def for_raw(self, scale: float) -> Parts:
        """For raw activations x what reads scale·x and writes scale·x̂; latents stay as they are."""
        return replace(self, W_enc=self.W_enc * scale, W_dec=self.W_dec / scale, b_dec=self.b_dec / scale)

    def shifted(self, shift: Tensor) -> Parts:
        """With ``shift`` (D_in,) @ W_enc added to the pre-activations."""
        change = shift @ self.W_enc
        moved = replace(self, b_enc=self.b_enc + change)
        if self.r_mag is None or self.b_mag is None:
            return moved
        return replace(moved, b_mag=self.b_mag + change * self.r_mag.exp())

    def centring(self, dictionary: Dictionary, centre: bool) -> Parts:
        """As a file wants them whose reader subtracts b_dec from the input (``centre``) or does not.

        Which of both it is only moves ``b_dec @ W_enc`` between the biases.
        """
        if dictionary.config.centre == centre:
            return self
        return self.shifted(self.b_dec if centre else -self.b_dec)


def hook_points(module: str, *, transcodes: bool = False) -> tuple[str, str]:
    """Hook points of a module as researchers call them, input and output: ``layers.3.mlp``, ``h.3``.

    What is not understood comes back as it is.
    """
    match = _BLOCK.search(module)
    if match is None:
        return module, module
    block, part = f"blocks.{match[1]}", match[2] or ""
    if part == "mlp":
        return (f"{block}.mlp.hook_in" if transcodes else f"{block}.hook_mlp_out"), f"{block}.hook_mlp_out"
    if part in ("attn", "self_attn", "attention"):
        return f"{block}.hook_attn_out", f"{block}.hook_attn_out"
    if part in ("", "output"):
        return f"{block}.hook_resid_post", f"{block}.hook_resid_post"
    return module, module


def transcodes(dictionary: Dictionary) -> bool:
    """It reads one hook point and writes another."""
    config = dictionary.config
    return (
        config.architecture in TRANSCODERS
        or dictionary.W_skip is not None
        or config.d_in != config.d_out
        or config.hook_in != config.hook_out
    )
