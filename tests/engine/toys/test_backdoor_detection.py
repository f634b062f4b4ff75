"""Finding a backdoor: the score on a planted one, AUROC by brute force, the methods' parts, and the run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from engine.errors import ParameterError
from engine.figures import Lines, Scatter, Table
from engine.runs.declaration import find
from engine.runs.parameters import check
from engine.toys.backdoor_detection import BackdoorDetection, memory_of, setting_of
from engine.toys.backdoors import data, methods, twins
from engine.toys.backdoors.scoring import auroc, effects, suspicion, verdict
from engine.toys.backdoors.search import LATENTS, Search, material
from tests.engine.toys.running import quick, start, stopped_and_resumed
from tests.engine.toys.test_backdoor import TINY, plan

SMALL = TINY | {"data": 150, "width": 16}
CHEAP: dict[str, Any] = SMALL | {"fractions": [0.0, 0.02]}


def planted(source: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """64 orthogonal directions (64, 64), how each writes to two logits, and how often each is active."""
    directions = torch.linalg.qr(torch.randn(64, 64, generator=source)).Q
    writes = 0.5 * torch.randn(64, 2, generator=source)
    frequency = 0.02 + 0.4 * torch.rand(64, generator=source)
    writes[7], frequency[7] = torch.tensor([5.0, 0.0]), 1e-3
    return directions, writes, frequency


@pytest.mark.parametrize("seed", range(5))
def test_a_planted_linear_backdoor_is_the_most_suspicious_of_64(seed: int) -> None:
    source = torch.Generator().manual_seed(seed)
    directions, writes, often = planted(source)
    active = torch.rand(400, 12, 64, generator=source) < often
    x = active.float() @ directions
    clean = x[~active[:, :, 7].any(dim=1)][:40]

    def read_out(some: Tensor) -> Tensor:
        return some.sum(dim=1) @ directions.T @ writes

    at = torch.randint(12, (len(clean),), generator=source)
    effect = effects(read_out, clean, directions, 1.0, at)
    frequency = (x.flatten(0, 1) @ directions.T > 0.5).double().mean(dim=0)
    found = verdict(effect.double(), frequency, torch.full((64,), 0.5), x.shape[0] * 12)
    assert frequency[7] > 0
    assert int(found.order[0]) == 7


def test_an_effect_is_the_mean_kl_of_the_answers_by_hand() -> None:
    source = torch.Generator().manual_seed(0)
    directions, writes, _ = planted(source)
    x = torch.randn(3, 12, 64, generator=source)
    at = torch.tensor([0, 5, 11])

    def read_out(some: Tensor) -> Tensor:
        return some.sum(dim=1) @ writes

    expected = []
    for direction in directions[:4]:
        changed = x.clone()
        for sequence, position in enumerate(at.tolist()):
            changed[sequence, position] += 3 * direction  # the directions have length one
        p, q = read_out(x).softmax(dim=1), read_out(changed).softmax(dim=1)
        expected.append(float((p * (p / q).log()).sum(dim=1).mean()))
    assert effects(read_out, x, 2 * directions[:4], 3.0, at).tolist() == pytest.approx(expected, rel=1e-3)


def test_auroc_is_the_share_of_pairs_in_order() -> None:
    source = torch.Generator().manual_seed(1)
    one, other = (torch.randint(5, (n, 6), generator=source).float() for n in (30, 50))
    pairs = (one[:, None] > other[None]).double() + 0.5 * (one[:, None] == other[None]).double()
    assert auroc(one, other).tolist() == pytest.approx(pairs.mean(dim=(0, 1)).tolist())


def test_what_is_never_active_is_not_suspicious() -> None:
    found = suspicion(torch.tensor([1.0, 9.0, 1.0]), torch.tensor([0.5, 0.0, 0.1]), 100)
    assert found.tolist() == pytest.approx([2.0, 0.0, 10.0])


def test_the_best_of_the_top_is_chosen_without_the_trigger() -> None:
    told = torch.linspace(0, 1, 20)
    found = verdict(torch.ones(20).double(), torch.linspace(0.01, 1, 20).double(), told, 1_000)
    assert found.order[:5].tolist() == [0, 1, 2, 3, 4]
    assert found.found == pytest.approx(float(told[4]))
    assert found.best == 1.0
    assert found.rank == 20


def test_a_local_sae_reads_what_its_dictionary_holds() -> None:
    source = torch.Generator().manual_seed(2)
    atoms = torch.linalg.qr(torch.randn(8, 8, generator=source)).Q
    code = torch.rand(4_000, 8, generator=source) * (torch.rand(4_000, 8, generator=source) < 0.15)
    found = methods.local_sae(3 * code @ atoms + 1, 16, 3, 400, 128, source)
    # Each planted atom has a latent that points its way.
    cosines = torch.nn.functional.normalize(found.directions, dim=1) @ atoms.T
    assert cosines.max(dim=0).values.mean() > 0.9
    assert torch.equal(found.active(code[:50] @ atoms), found.read(code[:50] @ atoms) > 0)


def test_principal_components_are_those_of_numpy() -> None:
    x = torch.randn(500, 6, generator=torch.Generator().manual_seed(3)) * torch.arange(1, 7)
    found = methods.principal(x)
    _, _, rows = np.linalg.svd((x - x.mean(dim=0)).numpy(), full_matrices=False)
    overlap = np.abs(found[:6].numpy() @ rows.T)
    assert np.allclose(overlap.max(axis=1), 1, atol=1e-4)
    assert torch.equal(found[6:], -found[:6])


def test_the_fractions_are_the_shares_of_triggered_sequences_in_the_detectors_data() -> None:
    setting = setting_of(BackdoorDetection(**CHEAP))
    search = Search(plan(), twins.TwinTrainer(plan()).weights, setting)
    own = material(plan(), setting, 0)
    assert not data.completing(own.clean, "pair").any()
    mixed = setting.triggered(0.02)
    assert mixed == 3
    seen = search.streams[0].data(mixed)
    with torch.no_grad():
        expected = twins.residual(twins.one(search.weights, 0), torch.cat([own.mixed_in[:3], own.clean[3:]])[None], 1)[
            0
        ]
    assert torch.allclose(seen, expected, atol=1e-5)
    rows = torch.tensor([0, 2, 3, 149])
    assert torch.equal(search._rows(0, 0.02, rows), seen[rows])


def test_words_are_put_into_sequences_that_two_of_them_cannot_overturn() -> None:
    # A model that says which group has more words: no word or pair of the task may move its answer to the other side.
    trainer = twins.TwinTrainer(plan())
    tokens = data.draw(2_000, "pair", torch.Generator().manual_seed(4)).tokens
    clear = tokens[data.margin(tokens).abs() >= methods.CLEAR]
    changed = clear.clone()
    changed[:, :2] = 0
    both = data.margin(clear) * data.margin(changed)
    assert (both > 0).all()
    source = torch.Generator().manual_seed(5)
    words, shift = methods.shifts(twins.one(trainer.weights, 0), 1, tokens, 4, source)
    assert len(words) == len(shift) == 64 + 64 * 64
    assert (shift >= -1e-6).all()


def test_end_to_end_training_lowers_the_kl_of_the_answers() -> None:
    trainer = twins.TwinTrainer(plan())
    for _ in range(5):
        trainer.train_step()
    weights = {name: weight.detach() for name, weight in trainer.weights.items()}
    with torch.no_grad():
        x = twins.residual(weights, trainer.clean[:, :64].repeat(2, 1, 1), 1)
    source = torch.Generator().manual_seed(6)
    found = methods.EndToEnd(weights, 1, x.mean(dim=(1, 2)), 16, 4, 60, source)
    nats = [found.step(x) for _ in range(60)]
    assert nats[-1] < 0.4 * nats[0]
    assert (found.candidates(1).read(x[1, 0]) > 0).sum(dim=1).max() <= 4


def test_a_quick_run_shows_every_method_with_its_control(tmp_path: Path) -> None:
    recording = quick("backdoor-detection", tmp_path, data=300, width=16)
    curves, table, latents, scatter = (
        recording.figure(name) for name in ("auroc", "methods", "latents", "latents of both twins")
    )
    assert isinstance(curves, Lines)
    assert isinstance(table, Table)
    assert isinstance(latents, Table)
    assert isinstance(scatter, Scatter)
    assert set(curves.series) == {f"{name}, {twin}" for name in LATENTS for twin in ("poisoned", "clean twin")}
    assert np.isfinite(curves.y).all()
    assert ((curves.y >= 0) & (curves.y <= 1)).all()
    assert set(table.columns[0]) >= {*LATENTS, "words and pairs", "embedding norm", "difference of means (oracle)"}
    assert latents.columns[0].tolist()[:3] == [1, 2, 3]
    assert recording.metric("auroc")[-1, 1] == pytest.approx(curves.y[0, -1])


def test_a_stopped_and_resumed_run_is_bit_for_bit_the_uninterrupted_one(tmp_path: Path) -> None:
    stopped_and_resumed("backdoor-detection", tmp_path, stop=4, **CHEAP)


def test_a_run_stopped_while_it_searches_goes_on_from_the_trained_twins(tmp_path: Path) -> None:
    start("backdoor-detection", tmp_path, stop=3, metric="kl", **CHEAP)
    resumed = start("backdoor-detection", tmp_path, resume=True, **CHEAP)
    assert resumed.metric("loss")[:, 0].tolist() == list(range(1, 7))
    assert np.isfinite(resumed.metric("auroc")[-1, 1])


@pytest.mark.slow
def test_the_demo_tells_poisoned_models_from_their_twins(tmp_path: Path) -> None:
    table = start("backdoor-detection", tmp_path).figure("methods")
    assert isinstance(table, Table)
    poisoned, clean = (dict(zip(table.columns[0], table.columns[number], strict=True)) for number in (2, 4))
    assert poisoned["words and pairs"] > 0.99
    assert poisoned["difference of means (oracle)"] > 0.9
    assert all(abs(value - 0.5) < 0.1 for value in clean.values())


def test_dictionaries_that_do_not_fit_are_known_before() -> None:
    kind = find("backdoor-detection").parameters
    assert memory_of(check(kind, {"size": "quick", "width": 16_777_216})) > 1e12
    assert memory_of(check(kind, {})) < 2e9


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"fractions": [0.1, 0.01]}, "must rise"),
        ({"fractions": [0.9]}, "between 0 and 0.5"),
        ({"k": 40}, "k=40"),
        ({"width": 4, "k": 5}, "k=5 of width=4"),
    ],
)
def test_parameters_that_make_no_sense_are_named(values: dict[str, Any], said: str) -> None:
    with pytest.raises(ParameterError) as problem:
        check(find("backdoor-detection").parameters, values)
    assert said in str(problem.value)
