"""Toy networks without tokens: a vector in, a few layers, a vector out, opened as any other model.

A *sample* of the toy's data takes the place of a token: the network holds a table of inputs, and a context is a
row of sample numbers, each worked on by itself. So activations are captured, looked at and decomposed as those
of a transformer are. Stored as a thing of the section "models": attributes with the stages, arrays with the
weights and the table. Nothing is pickled, and what is read is checked before it is used.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from torch import Tensor, nn
from transformer_lens import HookedRootModule
from transformer_lens.hook_points import HookPoint

from engine.models.errors import ModelError

Array: TypeAlias = npt.NDArray[Any]
KIND = "network"
INPUTS = "inputs"  # name of the table among the arrays, and of the input among the values
CONTEXT = 4096  # samples in one context: they do not see each other
SHOWN = 4  # parts of an input that a sample's text names
ARCHITECTURE = "toy network"


class Stage(BaseModel):
    """One step: ``value = activation((of @ W) [* (of @ times)] + bias) + plus``, at a hook point of its own.

    Attributes:
        name: of the value; its hook point is ``blocks.LAYER.hook_NAME``, before the activation ``…_pre``.
        weight: name of W (d_in, d_out), or (d_out, d_in) with ``transpose``.
        of: the value it reads; "" for that of the stage before, the input at first.
        bias, times: names of a bias and of a second matrix whose product multiplies the first (bilinear); "" for none.
        plus: a value that is added, "" for none.
        layer: number of the block it is listed under.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    name: str = Field(pattern=r"^[a-z][a-z0-9_]{0,39}$")
    weight: str = Field(min_length=1, max_length=80)
    of: str = ""
    bias: str = ""
    times: str = ""
    plus: str = ""
    transpose: bool = False
    activation: Literal["none", "relu"] = "none"
    layer: int = Field(default=0, ge=0, le=63)

    @property
    def hook(self) -> str:
        """Its hook point."""
        return f"blocks.{self.layer}.hook_{self.name}"


class _Stored(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)

    stages: list[Stage] = Field(min_length=1, max_length=200)
    input_names: list[str] = Field(max_length=100_000)


class Network:
    """A toy network.

    Args:
        stages: in order.
        weights: by name, float32.
        inputs: (samples, d_in) float32: the table of samples.
        input_names: one per part of the input, for people.

    Raises:
        ModelError: a weight is missing, of a wrong shape or not finite, or a stage reads a value that is not there.
    """

    def __init__(
        self, stages: Sequence[Stage], weights: Mapping[str, Array], inputs: Array, input_names: Sequence[str]
    ) -> None:
        self.stages = tuple(stages)
        self.weights = {name: np.ascontiguousarray(weight, dtype=np.float32) for name, weight in weights.items()}
        self.inputs = np.ascontiguousarray(inputs, dtype=np.float32)
        self.input_names = tuple(str(name) for name in input_names)
        self.widths = self._check()

    def _check(self) -> dict[str, int]:
        """Widths of all values by name."""
        if self.inputs.ndim != 2 or 0 in self.inputs.shape or len(self.input_names) != self.inputs.shape[1]:
            raise ModelError(
                f"A toy network's table of inputs has shape {self.inputs.shape} and {len(self.input_names)} names; "
                "it needs samples, and one name for each part."
            )
        for name, weight in {INPUTS: self.inputs, **self.weights}.items():
            if not np.isfinite(weight).all():
                raise ModelError(f"The weight {name} of this toy network holds values that are no finite numbers.")
        widths = {INPUTS: self.inputs.shape[1]}
        last = INPUTS
        for stage in self.stages:
            read = widths.get(stage.of or last)
            if read is None or stage.name in widths or (stage.plus and stage.plus not in widths):
                raise ModelError(
                    f"The stage {stage.name} of this toy network reads a value that is not there; train it again."
                )
            width = self._width(stage, stage.weight, read)
            if stage.times and self._width(stage, stage.times, read) != width:
                raise ModelError(f"The two factors of the stage {stage.name} have unequal widths; train the toy again.")
            if stage.bias and self._weight(stage.bias).shape != (width,):
                raise ModelError(f"The bias {stage.bias} of this toy network does not have {width} values.")
            if stage.plus and widths[stage.plus] != width:
                raise ModelError(f"The stage {stage.name} adds values of another width than {width}.")
            widths[stage.name] = width
            last = stage.name
        return widths

    def _weight(self, name: str) -> Array:
        if name not in self.weights:
            raise ModelError(f"The weight {name} of this toy network is missing; train it again.")
        return self.weights[name]

    def _width(self, stage: Stage, name: str, read: int) -> int:
        weight = self._weight(name)
        if weight.ndim != 2 or weight.shape[1 if stage.transpose else 0] != read:
            raise ModelError(
                f"The weight {name} of this toy network has shape {weight.shape}, which does not take {read} values."
            )
        return int(weight.shape[0 if stage.transpose else 1])

    @property
    def samples(self) -> int:
        """Samples in the table."""
        return len(self.inputs)


def save_network(network: Network, *, reference: str = "") -> tuple[dict[str, Any], dict[str, Array]]:
    """What to store of a toy network: its attributes and its arrays; `load_network` reads them."""
    attributes = {
        "kind": KIND,
        "reference": reference,
        "stages": [stage.model_dump() for stage in network.stages],
        "input_names": list(network.input_names),
        "config": {"layers": layers_of(network.stages), "d_model": network.inputs.shape[1]},
    }
    return attributes, {**network.weights, INPUTS: network.inputs}


def layers_of(stages: Sequence[Stage]) -> int:
    """Number of blocks that the stages are listed under."""
    return max(stage.layer for stage in stages) + 1


def load_network(
    attributes: Mapping[str, Any],
    arrays: Mapping[str, Array],
    *,
    device: str | torch.device = "cpu",
    dtype: torch.dtype = torch.float32,
) -> NetworkBridge:
    """The toy network that `save_network` stored, in evaluation mode. Raises `ModelError` where it does not hold."""
    try:
        stored = _Stored.model_validate({key: attributes.get(key) for key in ("stages", "input_names")})
    except ValidationError as problem:
        first = problem.errors(include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        raise ModelError(f"This toy network's description is wrong at {place}; train the toy again.") from None
    if INPUTS not in arrays:
        raise ModelError("This toy network has no table of inputs; train the toy again.")
    weights = {name: array for name, array in arrays.items() if name != INPUTS}
    network = Network(stored.stages, weights, np.asarray(arrays[INPUTS]), stored.input_names)
    return NetworkBridge(network, device=device, dtype=dtype)


class NetworkBridge(HookedRootModule):
    """A toy network with hook points, under the interface of TransformerLens' bridge that this program uses.

    Called with sample numbers (batch, position), it gives the last value (batch, position, d_out).
    """

    def __init__(
        self, network: Network, *, device: str | torch.device = "cpu", dtype: torch.dtype = torch.float32
    ) -> None:
        super().__init__()
        self.network = network
        self.tokenizer = SampleTokenizer(network)
        self.cfg = SimpleNamespace(
            architecture=ARCHITECTURE,
            n_layers=layers_of(network.stages),
            n_heads=1,
            d_head=1,
            n_key_value_heads=None,
            d_model=network.inputs.shape[1],
            d_mlp=None,
            n_ctx=CONTEXT,
            d_vocab=network.samples,
            act_fn="relu" if any(stage.activation == "relu" for stage in network.stages) else "none",
            gated_mlp=False,
            attn_only=False,
            normalization_type=None,
            positional_embedding_type=None,
            device=torch.device(device),
        )

        def fixed(array: Array) -> nn.Parameter:
            return nn.Parameter(torch.tensor(array, device=device, dtype=dtype), requires_grad=False)

        self.table = fixed(network.inputs)
        self.kept = nn.ParameterDict({_key(name): fixed(weight) for name, weight in network.weights.items()})
        names: list[list[str]] = [["hook_in"] for _ in range(self.cfg.n_layers)]
        for stage in network.stages:
            names[stage.layer] += [f"hook_{stage.name}"] + [f"hook_{stage.name}_pre"] * (stage.activation != "none")
        self.embed = _points(["hook_out"])
        self.blocks = nn.ModuleList(_points(found) for found in names)
        self.setup()  # type: ignore[no-untyped-call]
        self.eval()

    @property
    def original_model(self) -> NetworkBridge:
        """Itself: there is no other model around which it is wrapped."""
        return self

    def forward(self, tokens: Tensor, **_: Any) -> Tensor:
        """The last value for sample numbers (batch, position). Arguments that only transformers know are ignored."""
        values: dict[str, Tensor] = {INPUTS: self._seen(self.embed, "hook_out", self.table[tokens])}
        last, layer = INPUTS, -1
        for stage in self.network.stages:
            block = self.blocks[stage.layer]
            read = values[stage.of or last]
            if stage.layer != layer:
                layer = stage.layer
                read = self._seen(block, "hook_in", read)
            value = self._product(read, stage.weight, stage.transpose)
            if stage.times:
                value = value * self._product(read, stage.times, stage.transpose)
            if stage.bias:
                value = value + self.kept[_key(stage.bias)]
            if stage.activation == "relu":
                value = torch.relu(self._seen(block, f"hook_{stage.name}_pre", value))
            if stage.plus:
                value = value + values[stage.plus]
            values[stage.name] = self._seen(block, f"hook_{stage.name}", value)
            last = stage.name
        return values[last]

    @staticmethod
    def _seen(block: nn.Module, name: str, value: Tensor) -> Tensor:
        """``value`` as it leaves the hook point ``name`` of ``block``."""
        seen: Tensor = getattr(block, name)(value)
        return seen

    def _product(self, value: Tensor, name: str, transpose: bool) -> Tensor:
        weight: Tensor = self.kept[_key(name)]
        return value @ (weight.T if transpose else weight)


def _points(names: Sequence[str]) -> nn.Module:
    """A block that holds nothing but hook points."""
    block = nn.Module()
    for name in names:
        setattr(block, name, HookPoint())  # type: ignore[no-untyped-call]
    return block


def _key(name: str) -> str:
    return name.replace(".", "__")  # module names cannot hold dots


class SampleTokenizer:
    """Reads sample numbers and writes what is in a sample: the interface of a tokenizer that this program uses."""

    bos_token = eos_token = pad_token = unk_token = None
    bos_token_id = eos_token_id = pad_token_id = unk_token_id = None
    all_special_ids: tuple[int, ...] = ()
    name_or_path = KIND

    def __init__(self, network: Network) -> None:
        self._inputs, self._names = network.inputs, network.input_names

    def __len__(self) -> int:
        return len(self._inputs)

    def encode(self, text: str, *, add_special_tokens: bool = False) -> list[int]:
        """Sample numbers in ``text``, as in "0 1 2" or "#0 #1".

        Raises:
            ModelError: a word is no number of a sample.
        """
        found = []
        for word in re.split(r"[\s,;]+", text.strip()):
            number = word.removeprefix("#")
            if not word:
                continue
            if not (number.isascii() and number.isdigit() and int(number) < len(self)):
                raise ModelError(
                    f"“{word}” is no sample of this toy: it reads numbers from 0 to {len(self) - 1:,}, as in 0 1 2."
                )
            found.append(int(number))
        return found

    def decode(self, ids: Sequence[int], **_: Any) -> str:
        """What is in the samples: the names of their largest parts, " {a b c}" for each."""
        return "".join(self._text(int(number)) for number in ids)

    def convert_ids_to_tokens(self, ids: int | Sequence[int]) -> Any:
        """The samples' texts, one each."""
        return self._text(ids).strip() if isinstance(ids, int) else [self._text(int(n)).strip() for n in ids]

    def get_vocab(self) -> dict[str, int]:
        """Sample numbers as words."""
        return {f"#{number}": number for number in range(len(self))}

    def _text(self, number: int) -> str:
        row = np.abs(self._inputs[number])
        order = np.argsort(-row, kind="stable")[: SHOWN + 1]
        names = [self._names[part] for part in order if row[part] > 0]
        return " {" + " ".join(names[:SHOWN]) + ("…" if len(names) > SHOWN else "") + "}"
