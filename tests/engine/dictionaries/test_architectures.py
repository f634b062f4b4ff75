"""Every family's loss and gradients against the dense autograd reading of its paper."""

from __future__ import annotations

import pytest
import torch

from engine.dictionaries import penalties
from engine.dictionaries.architectures import codes, make
from engine.dictionaries.errors import DictionaryError
from tests.engine.dictionaries.dense import dense_loss, penalty
from tests.engine.dictionaries.making import choices, leaves, made, relative, some_weights

DEAD = torch.tensor([1, 5, 17, 18, 40])
CASES = {
    "topk": {},
    "topk-free": {"architecture": "topk", "atoms": "free"},
    "batchtopk": {},
    "batchtopk-free": {"architecture": "batchtopk", "atoms": "free"},
    "matryoshka": {"levels": 3},
    "matryoshka-free": {"architecture": "matryoshka", "levels": 4, "atoms": "free"},
    "relu": {"coefficient": 0.7},
    "relu-free": {"architecture": "relu", "atoms": "free", "coefficient": 3.0},
    "gated": {"coefficient": 0.7},
    "gated-free": {"architecture": "gated", "atoms": "free", "penalty": "log"},
    "jumprelu": {"bandwidth": 0.5},
    "jumprelu-step": {"architecture": "jumprelu", "l0_loss": "step", "bandwidth": 1.0},
    "jumprelu-tanh": {"architecture": "jumprelu", "l0_loss": "tanh", "atoms": "free", "bandwidth": 0.3},
}
for _name in ("l1", "lp", "log-square", "log", "tanh", "product"):
    CASES[f"relu-{_name}"] = {"architecture": "relu", "penalty": _name, "penalty_scale": 1.7, "penalty_p": 0.4}
TRANSCODERS = {
    f"{architecture}-{sparsity}": {"architecture": architecture, "sparsity": sparsity, "bandwidth": 0.5}
    for architecture in ("transcoder", "skip-transcoder")
    for sparsity in ("topk", "batchtopk", "jumprelu", "relu")
}


def chosen_for(name):
    return choices(**{"architecture": name} | (CASES | TRANSCODERS)[name])


def batch(d, n=130, seed=1):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed)) * 2 + 1


def compared(chosen, weights, x, y=None, dead=DEAD, progress=1.0, variance=37.0):
    """Ours and the dense reading must agree in loss and every gradient."""
    d_out = (x if y is None else y).shape[1]
    found = made(chosen, variance, mean=torch.zeros(x.shape[1]), mean_out=torch.zeros(d_out)).step(
        weights, x, y, dead, progress
    )
    reference = leaves(weights)
    loss = dense_loss(chosen, reference, x, variance, y=y, dead=dead, progress=progress)
    loss.backward()
    assert float(found.loss) == pytest.approx(loss.item(), rel=2e-5)
    assert float(sum(found.terms.values())) == pytest.approx(float(found.loss), rel=1e-9)
    assert list(found.gradients.tensors()) == list(weights.tensors())
    for name, gradient in found.gradients.tensors().items():
        expected = torch.zeros_like(gradient) if reference[name].grad is None else reference[name].grad
        assert relative(gradient, expected) < 2e-5, name
    return found


@pytest.mark.parametrize("bias", [0.0, -5.0], ids=["many", "few"])
@pytest.mark.parametrize("name", CASES)
def test_loss_and_gradients_equal_dense_autograd(name, bias):
    chosen = chosen_for(name)
    weights = some_weights(chosen, 16)
    weights.b_enc += bias
    if weights.threshold is not None:
        weights.threshold.abs_()
    found = compared(chosen, weights, batch(16))
    assert 0 < int(found.fired.sum()) < 130 * 64


@pytest.mark.parametrize("name", TRANSCODERS)
def test_a_transcoder_s_gradients_equal_dense_autograd(name):
    chosen = chosen_for(name)
    weights = some_weights(chosen, 12, 20)
    if weights.threshold is not None:
        weights.threshold.abs_()
    assert (weights.skip is not None) == (chosen.architecture == "skip-transcoder")
    compared(chosen, weights, batch(12), batch(20, seed=2))


@pytest.mark.parametrize("name", ["relu", "gated", "jumprelu", "relu-free", "relu-product", "gated-free"])
def test_sparse_and_dense_products_agree(name, monkeypatch):
    chosen = chosen_for(name)
    weights = some_weights(chosen, 16)
    found = []
    for limit, kind in ((2.0, codes.Sparse), (-1.0, codes.Dense)):
        monkeypatch.setattr(codes, "DENSE_ABOVE", limit)
        search = codes.search(codes.Encoder(), batch(16), weights.encoder, weights.b_enc, 0.0)
        assert isinstance(search, kind)
        found.append(made(chosen, 30.0).step(weights, batch(16), None, DEAD, 0.1))
    sparse, dense = found
    assert float(sparse.loss) == pytest.approx(float(dense.loss), rel=1e-5)
    assert torch.equal(sparse.fired, dense.fired)
    for name, gradient in sparse.gradients.tensors().items():
        assert relative(gradient, dense.gradients.tensors()[name]) < 1e-5, name


def test_the_density_switch_looks_at_how_many_are_above():
    weights = some_weights(choices("relu"), 16)
    assert isinstance(codes.search(codes.Encoder(), batch(16), weights.encoder, weights.b_enc, 0.0), codes.Dense)
    found = codes.search(codes.Encoder(), batch(16), weights.encoder, weights.b_enc - 8, 0.0)
    assert isinstance(found, codes.Sparse)
    expected = batch(16) @ weights.encoder.T + weights.b_enc - 8 > 0
    assert torch.equal(found.latents.dense() > 0, expected)


@pytest.mark.parametrize("name", ["relu", "gated", "jumprelu"])
def test_the_penalty_s_weight_rises_over_its_warm_up(name):
    chosen = choices(name, warm_up_penalty=0.5, coefficient=2.0)
    weights, x = some_weights(chosen, 16), batch(16)
    terms = [made(chosen).step(weights, x, None, None, progress).terms for progress in (0.0, 0.25, 0.5, 0.9)]
    assert [float(term["penalty"] / terms[2]["penalty"]) for term in terms] == pytest.approx([0, 0.5, 1, 1])
    compared(chosen, weights, x, progress=0.2)


def test_reconstruction_is_the_batch_s_fvu_where_the_mean_predictor_gives_one():
    x = batch(16, 4_000)
    mean = x.mean(dim=0)
    variance = float((x - mean).square().sum(dim=1).mean())
    for name in ("topk", "batchtopk", "matryoshka", "relu", "gated", "jumprelu"):
        chosen = choices(name)
        architecture = made(chosen, variance, mean)
        weights = architecture.initial(16, 16, torch.Generator().manual_seed(0))
        weights.b_enc -= 1e6
        found = architecture.step(weights, x, None, None, 1.0)
        assert float(found.terms["reconstruction"]) == pytest.approx(1, rel=1e-5)
        assert float(found.squared_error) == pytest.approx(variance * len(x), rel=1e-5)


def test_no_atom_of_length_zero_spoils_a_gradient():
    for name in ("relu", "jumprelu", "topk", "batchtopk"):
        chosen = choices("transcoder", sparsity=name, l0_loss="tanh")
        mean_in, mean_out = torch.ones(12), torch.ones(20)
        architecture = made(chosen, 20.0, mean_in, mean_out)
        weights = architecture.initial(12, 20, torch.Generator().manual_seed(0))
        found = architecture.step(weights, batch(12), batch(20), DEAD, 1.0)
        assert all(torch.isfinite(gradient).all() for gradient in found.gradients.tensors().values())
        assert found.gradients.decoder.abs().max() > 0


@pytest.mark.parametrize("name", penalties.PENALTIES)
def test_slopes_are_derivatives_of_values(name):
    a = torch.linspace(0.01, 30, 50, dtype=torch.float64, requires_grad=True)
    values = penalties.values(name, a, 1.7, 0.4)
    (expected,) = torch.autograd.grad(values.sum(), a)
    values = values.detach()
    torch.testing.assert_close(penalties.slopes(name, a.detach(), 1.7, 0.4), expected)
    if name != "product":
        wanted = penalty(choices("relu", penalty=name, penalty_scale=1.7, penalty_p=0.4), a.detach())
        assert float(values.sum()) == pytest.approx(float(wanted), rel=1e-9)
    assert float(penalties.values(name, torch.zeros(1), 1.7, 0.4)) == pytest.approx(0, abs=1e-6)


def test_the_product_goes_on_straight_where_the_code_is_dense():
    exponents = torch.tensor([0.0, 1.0, 29.9, 30.0, 40.0, 500.0], dtype=torch.float64)
    values, slopes = penalties.product(exponents)
    torch.testing.assert_close(values[:4], exponents[:4].exp() - 1)
    torch.testing.assert_close(slopes[:4], exponents[:4].exp())
    torch.testing.assert_close(values[4] - values[3], 10 * slopes[3])
    assert slopes[5] == slopes[3] > 0


def test_an_architecture_that_does_not_exist_and_numbers_that_do_not_fit_are_said():
    with pytest.raises(DictionaryError, match=r"^The architecture “toppk” is not known; choose one of batchtopk, "):
        make(choices("toppk"), None)
    with pytest.raises(DictionaryError, match=r"^k = 65 must lie between 1 and the width of 64\.$"):
        make(choices(k=65), None)
    with pytest.raises(DictionaryError, match=r"^A width of 64 cannot be halved into 8 prefixes\.$"):
        make(choices("matryoshka", levels=8), None)
