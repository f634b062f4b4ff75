"""The peers' side of the comparison of formats: writes dictionaries with a library, and reads ours with it.

``python -m tests.benchmarks.peers.formats_worker LIBRARY FOLDER``, in the peers' environment. Each case is a folder:
``theirs/CASE`` is made here and gets ``files``, ``x.npy``, ``latents.npy`` and ``output.npy``; ``ours/CASE`` has
``files`` and ``x.npy`` and gets the other two, or ``error.txt``.
"""

from __future__ import annotations

import copy
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

D, D_OUT, WIDTH, K, COUNT = 48, 32, 384, 12, 256
Forward = Callable[[Tensor], tuple[Tensor, Tensor]]  # activations to latents and reconstructions
Made = tuple[str, Callable[[Path], None], Forward]
HOOKS = {"model_name": "gpt2", "hook_name": "blocks.3.hook_resid_pre", "hook_name_out": "blocks.3.hook_mlp_out"}


def draw(generator: torch.Generator, parameters: dict[str, Tensor], atoms: str) -> None:
    """Fill tensors with numbers that leave pre-activations and reconstructions of order one."""
    for name, tensor in parameters.items():
        size = 1.0 if name == atoms else 1 / max(tensor.shape) ** 0.5 if tensor.ndim == 2 else 0.3
        with torch.no_grad():
            if tensor.is_floating_point():
                tensor.copy_(torch.randn(tensor.shape, generator=generator) * (size / 4 if name == atoms else size))


def of_saelens(generator: torch.Generator) -> Iterator[Made]:
    from sae_lens import SAE
    from sae_lens.registry import get_sae_class, get_sae_training_class
    from sae_lens.saes.sae import SAEMetadata
    from sae_lens.training.activation_scaler import ActivationScaler

    def filled(sae: Any) -> Any:
        draw(generator, dict(sae.named_parameters()), "W_dec")
        if hasattr(sae, "threshold"):
            sae.threshold.data.abs_()
        return sae

    def forward(sae: Any) -> Forward:
        return lambda x: (sae.encode(x), sae(x))

    size = {"d_in": D, "d_sae": WIDTH, "dtype": "float32", "device": "cpu"}
    topk = {"k": K, "rescale_acts_by_decoder_norm": False}
    cases: list[tuple[str, str, dict[str, Any]]] = [
        ("standard", "standard", {}),
        ("standard not centred", "standard", {"apply_b_dec_to_input": False}),
        ("standard with layer norm", "standard", {"normalize_activations": "layer_norm"}),
        ("standard with constant norm", "standard", {"normalize_activations": "constant_norm_rescale"}),
        ("topk", "topk", topk),
        ("topk rescaled", "topk", topk | {"rescale_acts_by_decoder_norm": True}),
        ("jumprelu", "jumprelu", {}),
        ("gated", "gated", {}),
        ("gated not centred", "gated", {"apply_b_dec_to_input": False}),
    ]
    transcoders = ("transcoder", "skip_transcoder", "jumprelu_transcoder", "jumprelu_skip_transcoder")
    cases += [(name, name, {"d_out": D_OUT, "apply_b_dec_to_input": False}) for name in transcoders]
    cases += [("abstopk", "abstopk", topk), ("matching pursuit", "matching_pursuit", {})]
    for case, architecture, more in cases:
        kind, config = get_sae_class(architecture)
        sae = filled(kind(config(**size, **more, metadata=SAEMetadata(**HOOKS))))
        yield case, sae.save_model, forward(sae)
    for architecture in ("standard", "topk", "batchtopk", "matryoshka_batchtopk", "jumprelu", "gated"):
        kind, config = get_sae_training_class(architecture)
        more = {"k": K} if "topk" in architecture else {}
        if architecture == "matryoshka_batchtopk":
            more["matryoshka_widths"] = [WIDTH // 4, WIDTH]
        normalised = {"normalize_activations": "expected_average_only_in"}
        sae = filled(kind(config(**size, **more, **normalised, metadata=SAEMetadata(**HOOKS))))
        if hasattr(sae, "topk_threshold"):
            sae.topk_threshold.fill_(0.7)
        finished = copy.deepcopy(sae)
        finished.fold_activation_norm_scaling_factor(0.8)

        def load(place: Path, finished: Any = finished) -> Any:
            finished.save_inference_model(place)
            return SAE.load_from_disk(place)

        def checkpoint(place: Path, sae: Any = sae) -> None:
            sae.save_model(place)
            ActivationScaler(scaling_factor=0.8).save(str(place / "activation_scaler.json"))

        def folded(x: Tensor, load: Callable[[Path], Any] = load) -> tuple[Tensor, Tensor]:
            import tempfile

            with tempfile.TemporaryDirectory() as scratch:
                sae = load(Path(scratch))
            return sae.encode(x), sae(x)

        yield f"trained {architecture}", finished.save_inference_model, folded
        yield f"checkpoint of {architecture}", checkpoint, folded


def read_saelens(files: Path) -> Forward:
    from sae_lens import SAE

    sae = SAE.load_from_disk(files)
    return lambda x: (sae.encode(x), sae(x))


def of_dictionary_learning(generator: torch.Generator) -> Iterator[Made]:
    from dictionary_learning import dictionary as plain
    from dictionary_learning.trainers.batch_top_k import BatchTopKSAE
    from dictionary_learning.trainers.matryoshka_batch_top_k import MatryoshkaBatchTopKSAE
    from dictionary_learning.trainers.top_k import AutoEncoderTopK

    groups = [WIDTH // 4, WIDTH - WIDTH // 4]
    cases = [
        ("AutoEncoder", plain.AutoEncoder(D, WIDTH)),
        ("AutoEncoderNew", plain.AutoEncoderNew(D, WIDTH)),
        ("GatedAutoEncoder", plain.GatedAutoEncoder(D, WIDTH)),
        ("JumpReluAutoEncoder", plain.JumpReluAutoEncoder(D, WIDTH)),
        ("AutoEncoderTopK", AutoEncoderTopK(D, WIDTH, K)),
        ("BatchTopKSAE", BatchTopKSAE(D, WIDTH, K)),
        ("BatchTopKSAE without threshold", BatchTopKSAE(D, WIDTH, K)),
        ("MatryoshkaBatchTopKSAE", MatryoshkaBatchTopKSAE(D, WIDTH, K, groups)),
    ]
    for case, ae in cases:
        draw(generator, dict(ae.named_parameters()), "decoder.weight" if hasattr(ae, "decoder") else "W_dec")
        if "threshold" in dict(ae.named_parameters()):
            ae.threshold.data.abs_()
        elif hasattr(ae, "threshold") and "without" not in case:
            ae.threshold.fill_(0.7)

        def save(place: Path, ae: Any = ae) -> None:
            place.mkdir()
            trainer = {"dict_class": type(ae).__name__, "lm_name": "gpt2", "layer": 3, "submodule_name": "h.3"}
            if hasattr(ae, "k"):
                trainer["k"] = int(ae.k)
            (place / "config.json").write_text(json.dumps({"trainer": trainer, "buffer": {}}))
            torch.save(ae.state_dict(), place / "ae.pt")

        def forward(x: Tensor, ae: Any = ae, case: str = case) -> tuple[Tensor, Tensor]:
            import tempfile

            if "without" in case:  # its own forward would be a plain ReLU
                code = ae.encode(x, use_threshold=False)
                return code, ae.decode(code)
            with tempfile.TemporaryDirectory() as scratch:
                save(Path(scratch) / "one", ae)
                return read_dictionary_learning(Path(scratch) / "one")(x)

        yield case, save, forward


def read_dictionary_learning(files: Path) -> Forward:
    from dictionary_learning.utils import load_dictionary

    ae, _ = load_dictionary(str(files), device="cpu")

    def forward(x: Tensor) -> tuple[Tensor, Tensor]:
        unset = hasattr(ae, "k") and float(ae.threshold) < 0 and type(ae).__name__ != "AutoEncoderTopK"
        code = ae.encode(x, use_threshold=False) if unset else ae.encode(x)
        return code, ae.decode(code)

    return forward


def of_sparsify(generator: torch.Generator) -> Iterator[Made]:
    from sparsify import SparseCoder, SparseCoderConfig

    cases = [
        ("coder", {}),
        ("coder by expansion factor", {"num_latents": 0, "expansion_factor": WIDTH // D}),
        ("transcoder", {"transcode": True}),
        ("skip transcoder", {"transcode": True, "skip_connection": True}),
        ("coder with skip", {"skip_connection": True}),
        ("groupmax", {"activation": "groupmax"}),
    ]
    for case, more in cases:
        coder = SparseCoder(D, SparseCoderConfig(**{"num_latents": WIDTH, "k": K} | more))
        draw(generator, dict(coder.named_parameters()), "W_dec")
        yield case, coder.save_to_disk, _sparse(coder)


def read_sparsify(files: Path) -> Forward:
    from sparsify import SparseCoder

    return _sparse(SparseCoder.load_from_disk(files))


def _sparse(coder: Any) -> Forward:
    def forward(x: Tensor) -> tuple[Tensor, Tensor]:
        values, indices, _ = coder.encode(x)
        return torch.zeros(len(x), coder.num_latents).scatter(1, indices, values), coder(x).sae_out

    return forward


MAKERS = {"saelens": of_saelens, "dictionary_learning": of_dictionary_learning, "sparsify": of_sparsify}
READERS = {"saelens": read_saelens, "dictionary_learning": read_dictionary_learning, "sparsify": read_sparsify}


@torch.no_grad()
def main() -> int:
    """Make the library's cases, then read ours."""
    library, folder = sys.argv[1], Path(sys.argv[2])
    generator = torch.Generator().manual_seed(0)
    for case, save, forward in MAKERS[library](generator):
        place = folder / "theirs" / case
        place.mkdir(parents=True)
        save(place / "files")
        x = torch.randn(COUNT, D, generator=generator) + 0.2
        _keep(place, x, forward)
    for place in sorted((folder / "ours").iterdir()):
        x = torch.from_numpy(np.load(place / "x.npy"))
        try:
            _keep(place, x, READERS[library](place / "files"))
        except Exception as problem:  # one that cannot be read must not hide the others
            (place / "error.txt").write_text(f"{type(problem).__name__}: {problem}")
    return 0


def _keep(place: Path, x: Tensor, forward: Forward) -> None:
    latents, output = forward(x)
    for name, tensor in (("x", x), ("latents", latents), ("output", output)):
        np.save(place / f"{name}.npy", tensor.detach().numpy())


if __name__ == "__main__":
    raise SystemExit(main())
