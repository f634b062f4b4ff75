"""All pairwise ANDs in one layer: circuits against their theory, scores, layers, training, and the experiment."""

from __future__ import annotations

import itertools
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from engine.errors import ParameterError
from engine.figures import Images, Lines, Table
from engine.models import memory
from engine.runs.declaration import find
from engine.runs.parameters import check
from engine.text.toys import find as toy_data
from engine.toys.boolean.circuits import (
    AndTrainer,
    Circuit,
    World,
    across_layers,
    balanced_error,
    bits_alone,
    dense_sign,
    gaussian,
    kurtosis,
    least_squares,
    localised,
    score,
    shuffled,
    sign_moments,
    sign_theory,
    sparse,
)
from engine.toys.boolean.measures import Bench, _noise_like, dictionaries, robustness, truth_table
from engine.toys.costs import _costs
from engine.toys.training import generator
from tests.engine.toys.running import opened, quick, start, stopped_and_resumed

WORLD = World(32, 3)
SMALL = World(10, 3)


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("universal-and")
    return folder, quick("universal-and", folder)


@pytest.mark.parametrize("active", [2, 3, 4, 5])
def test_moments_of_signs_are_those_of_all_sign_patterns(active: int) -> None:
    patterns = list(itertools.product((-1, 1), repeat=active))
    mean = np.mean([s[0] * s[1] * max(sum(s), 0) for s in patterns])
    square = np.mean([max(sum(s), 0) ** 2 for s in patterns])
    assert sign_moments(active) == pytest.approx((mean, square))


def test_the_theory_for_three_bits_is_the_root_of_24_over_d() -> None:
    above, below, separation = sign_theory(3, 100)
    assert (below, above) == pytest.approx((math.sqrt(24 / 100), math.sqrt(23 / 100)))
    assert separation == pytest.approx(math.sqrt(2 * 100 / 47))


def test_the_dense_sign_circuit_has_the_noise_of_its_theory() -> None:
    inputs = WORLD.draw(3_000, generator(0, 0))
    found = score(dense_sign(WORLD, 2_048, generator(0, 1))(inputs), WORLD.ands(inputs))
    assert found.spreads[1] == pytest.approx(math.sqrt(24 / 2_048), rel=0.1)
    assert found.means[0] == pytest.approx(1, abs=0.05)
    assert found.means[1] == pytest.approx(0, abs=0.02)


@pytest.mark.parametrize("exact", [True, False])
def test_inputs_have_so_many_bits_on(exact: bool) -> None:
    world = World(32, 3, exact)
    inputs = world.draw(4_000, generator(0, 0))
    counts = inputs.sum(dim=1)
    assert set(inputs.unique().tolist()) == {0, 1}
    assert (counts == 3).all() if exact else counts.mean() == pytest.approx(3, abs=0.1)
    assert float(world.ands(inputs).float().mean()) == pytest.approx(world.rate, rel=0.05)


def test_the_sparse_circuit_answers_one_at_positives_of_two_bits_that_a_neuron_reads() -> None:
    world = World(12, 2)
    circuit = sparse(world, 40, 0.2, generator(0, 0))
    i, j = world.pairs
    inputs = torch.zeros(len(i), 12)
    inputs[torch.arange(len(i)), i] = inputs[torch.arange(len(i)), j] = 1
    read = (circuit.inward[i] * circuit.inward[j]).sum(dim=1) > 0
    own = circuit(inputs).diagonal()
    assert 0 < read.sum() < len(i)
    assert torch.allclose(own, read.float(), atol=1e-6)
    found = score(circuit(inputs), world.ands(inputs))
    assert found.missed == pytest.approx(1 - float(read.float().mean()), abs=1e-6)


def test_the_error_at_the_best_threshold_is_that_of_a_search_over_all_thresholds() -> None:
    source = generator(1, 0)
    answers = torch.rand(40, 10, generator=source) < 0.1
    outputs = torch.randn(40, 10, generator=source) + 1.5 * answers
    on, off = outputs[answers], outputs[~answers]
    every = min(balanced_error(on, off, float(t)) for t in outputs.flatten())
    found = score(outputs, answers)
    assert found.error == pytest.approx(every, abs=0.01)
    assert balanced_error(on, off, found.threshold) == pytest.approx(found.error, abs=0.01)
    pooled = math.sqrt((float(on.var(unbiased=False)) + float(off.var(unbiased=False))) / 2)
    assert found.separation == pytest.approx(float(on.mean() - off.mean()) / pooled, rel=1e-5)
    assert found.mse == pytest.approx(float((outputs - answers.float()).square().mean()), rel=1e-5)
    variance = float(answers.float().var(unbiased=False))
    assert found.explained == pytest.approx(1 - found.mse / variance, rel=1e-5)


def test_outputs_that_do_not_differ_are_at_chance() -> None:
    answers = torch.tensor([[True, False], [False, False]])
    found = score(torch.zeros(2, 2), answers)
    assert (found.separation, found.error, found.error_at_half) == (0, 0.5, 0.5)


def test_least_squares_is_the_best_readout_and_bits_alone_tell_pairs_apart() -> None:
    inputs = SMALL.draw(2_000, generator(0, 0))
    answers = SMALL.ands(inputs)
    fitted = least_squares(bits_alone(SMALL), inputs, answers)
    joined = np.hstack([inputs.numpy(), np.ones((2_000, 1))]).astype(float)
    expected = joined @ np.linalg.lstsq(joined, answers.numpy().astype(float), rcond=None)[0]
    assert fitted(inputs).numpy() == pytest.approx(expected, abs=1e-3)
    found = score(fitted(inputs), answers)
    assert found.error == 0  # an AND is linearly separable
    assert 0 < found.explained < 0.6  # yet its value is not linear
    hidden = gaussian(SMALL, 20, generator(0, 1))
    one = score(least_squares(hidden, inputs, answers)(inputs), answers)
    other = score(least_squares(dense_sign(SMALL, 20, generator(0, 1)), inputs, answers)(inputs), answers)
    assert one.explained > 0
    assert other.explained > score(dense_sign(SMALL, 20, generator(0, 1))(inputs), answers).explained


def test_shuffled_readouts_know_nothing() -> None:
    inputs = WORLD.draw(1_000, generator(0, 0))
    mixed = shuffled(dense_sign(WORLD, 1_024, generator(0, 1)), generator(0, 2))
    assert abs(score(mixed(inputs), WORLD.ands(inputs)).separation) < 0.3


def test_spread_over_layers_the_output_is_that_of_one_layer() -> None:
    inputs = SMALL.draw(50, generator(0, 0))
    for circuit in (dense_sign(SMALL, 100, generator(0, 1)), sparse(SMALL, 100, 0.3, generator(0, 1))):
        offset = Circuit(circuit.inward, circuit.bias, circuit.outward, circuit.offset + 0.25)
        spread = across_layers(offset, 7, generator(0, 2))
        outputs = spread.outputs(inputs)
        assert torch.allclose(outputs[-1], offset(inputs), atol=1e-5)
        assert torch.bincount(spread.layer).tolist() == [15, 14, 14, 15, 14, 14, 14]
        local = localised(offset, 7).outputs(inputs)
        assert (local[:3] == 0.25).all()
        assert torch.allclose(local[3], offset(inputs), atol=1e-5)
        assert torch.equal(local[3], local[-1])


def test_half_of_the_layers_hold_half_of_the_signal_and_root_half_of_the_noise() -> None:
    inputs = WORLD.draw(1_000, generator(0, 0))
    answers = WORLD.ands(inputs)
    outputs = across_layers(dense_sign(WORLD, 1_024, generator(0, 1)), 8, generator(0, 2)).outputs(inputs)
    half, last = score(outputs[3], answers), score(outputs[7], answers)
    assert half.means[0] / last.means[0] == pytest.approx(0.5, abs=0.05)
    assert half.spreads[1] / last.spreads[1] == pytest.approx(math.sqrt(0.5), abs=0.05)


@pytest.mark.parametrize("weight", [1.0, 5.0])
def test_gradients_written_by_hand_are_autograd_s(weight: float) -> None:
    trainer = AndTrainer(SMALL, [8, 16], steps=10, batch=64, lr=1e-3, seed=0, positive_weight=weight)
    inputs = SMALL.draw(64, generator(0, 5))
    answers = SMALL.ands(inputs)
    for d in trainer.neurons:
        names = [f"{part}.{d}" for part in ("inward", "bias", "outward", "offset")]
        tensors = [trainer.weights[name].detach().clone().requires_grad_() for name in names]
        hidden = torch.relu(inputs @ tensors[0] + tensors[1])
        error = (hidden @ tensors[2] + tensors[3] - answers.float()).square()
        loss = torch.where(answers, weight * error, error).mean()
        loss.backward()
        assert trainer._gradients(d, inputs, answers) == pytest.approx(loss.item(), rel=1e-5)
        for name, tensor in zip(names, tensors, strict=True):
            gradient = trainer.weights[name].grad
            assert gradient is not None
            assert torch.allclose(gradient, tensor.grad, atol=1e-7), name


def test_training_learns_the_ands() -> None:
    trainer = AndTrainer(SMALL, [48], steps=300, batch=128, lr=1e-2, seed=0)
    inputs = SMALL.draw(500, generator(0, 2))
    before = score(trainer.circuit(48)(inputs), SMALL.ands(inputs))
    for _ in range(300):
        trainer.train_step()
    after = score(trainer.circuit(48)(inputs), SMALL.ands(inputs))
    assert before.explained < 0.1 < 0.6 < after.explained


def test_the_truth_table_adds_up_and_its_classes_are_those_of_the_signs() -> None:
    bench = Bench(World(8, 2), 2_000, 100, 0)
    circuit = dense_sign(bench.world, 400, generator(0, 1))
    rows = truth_table(bench, circuit)
    outputs, answers = circuit(bench.inputs), bench.answers
    means = [float(outputs[:, pair][answers[:, pair]].mean()) for pair in range(answers.shape[1])]
    assert rows[-1][5] == pytest.approx(np.mean(means), abs=1e-4)
    assert sum(row[5] for row in rows[:-1]) == pytest.approx(rows[-1][5], abs=1e-4)
    assert [row[1] for row in rows[:-1]] == pytest.approx([0.25] * 4, abs=0.03)
    # With two bits on, only neurons of two plus signs see them: ReLU(2) times 2 / d for each.
    assert rows[0][5] == pytest.approx(4 * rows[0][1], abs=1e-3)
    assert [row[5] for row in rows[1:4]] == pytest.approx([0, 0, 0], abs=1e-6)


def test_kurtosis_tells_two_values_from_a_gaussian() -> None:
    world = World(400, 3)
    assert kurtosis(dense_sign(World(64, 3), 500, generator(0, 0))) == pytest.approx(1.05, abs=0.05)
    assert kurtosis(gaussian(world, 8, generator(0, 0))) == pytest.approx(3, abs=0.25)


def test_more_active_bits_make_it_harder_at_fixed_weights() -> None:
    bench = Bench(World(16, 3), 800, 800, 0)
    scores, errors = robustness(bench, {"dense": dense_sign(bench.world, 512, generator(0, 1))}, [2, 3, 4, 5, 6], 800)
    found = [one.separation for one in scores["dense"]]
    assert found == sorted(found, reverse=True)
    assert errors["dense"][1] < errors["dense"][-1]


def test_dictionaries_come_nearer_to_the_outputs_than_controls() -> None:
    bench = Bench(World(8, 3), 100, 1_000, 0)
    spread = across_layers(dense_sign(bench.world, 512, generator(0, 1)), 4, generator(0, 2))
    trained, noise, random = dictionaries(bench, spread, [0, 3], 200, 3, lambda: None).values()
    assert trained[1] > trained[0]
    assert trained[1] > max(noise[1], random[1]) + 0.1


def test_the_noise_control_has_the_mean_and_covariance_of_the_outputs() -> None:
    data = torch.randn(20_000, 4, generator=generator(0, 0)) @ torch.randn(4, 4, generator=generator(0, 1)) + 2
    noise = _noise_like(data, generator(0, 2))
    assert torch.allclose(noise.mean(dim=0), data.mean(dim=0), atol=0.1)
    assert torch.allclose(noise.T.cov(), data.T.cov(), rtol=0.1, atol=0.2)


def test_a_quick_run_shows_circuits_and_controls(recording: Any) -> None:
    _, run = recording
    names = set(run.figure_names())
    assert {"separation", "error", "explained", "circuits", "signal-by-layer", "truth-table", "robustness"} <= names
    separation = run.figure("separation")
    assert isinstance(separation, Lines)
    assert {"dense sign, pairs shuffled", "untrained", "Gaussian + least squares", "learned"} <= set(separation.series)
    assert "bits alone, no ReLU" in separation.reference
    theory = separation.series.index("theory of dense sign")
    assert separation.y[theory, :3] == pytest.approx([math.sqrt(2 * d / 47) for d in separation.x[theory, :3]])
    table = run.figure("circuits")
    assert isinstance(table, Table)
    columns = dict(zip((axis.label for axis in table.axes), table.columns, strict=True))
    row = list(columns["Circuit"]).index("dense sign, pairs shuffled")
    assert abs(columns["d'"][row]) < 0.3
    assert columns["MSE"] == pytest.approx(
        (1 - columns["Variance explained"]) * World(12, 3).rate * (1 - World(12, 3).rate)
    )
    assert run.movie_names() == ["input-weights", "readout"]
    readout = run.figure("readout")
    assert isinstance(readout, Images)
    assert np.array_equal(readout.pixels, readout.pixels.transpose(0, 2, 1))
    assert run.metric("mse")[-1, 1] < World(12, 3).rate
    assert run.metric("error")[-1, 1] < run.metric("error")[0, 1]


def test_the_toy_in_the_session_computes_what_the_circuit_does(recording: Any) -> None:
    folder, run = recording
    model = opened("universal-and", folder)
    _, data = toy_data("universal-and-1", folder)
    outputs, cache = model.bridge.run_with_cache(torch.tensor(data.tokens))
    assert data.features is not None
    assert score(outputs[0], torch.tensor(data.features[0] > 0)).separation > 1.5
    network = model.bridge.network
    whole = [np.concatenate([network.weights[f"{part}.{n}"] for n in range(8)], axis=axis) for part, axis in
             (("inward", 1), ("bias", 0), ("outward", 0))]  # fmt: skip
    expected = np.maximum(network.inputs @ whole[0] + whole[1], 0) @ whole[2] + network.weights["offset"]
    assert outputs[0].numpy() == pytest.approx(expected[data.tokens[0]], abs=1e-5)
    assert torch.equal(cache["blocks.7.hook_out7"], outputs)
    i, j = np.triu_indices(12, 1)
    assert np.array_equal(data.features[0] > 0, network.inputs[:, i] * network.inputs[:, j] > 0)
    assert run.kept("layer_of_neuron").shape == (128,)


def test_a_stopped_and_resumed_run_is_bit_for_bit_the_uninterrupted_one(tmp_path: Path) -> None:
    stopped_and_resumed("universal-and", tmp_path, stop=30, size="quick", bits=8, steps=50, layers=2)


def test_a_learned_circuit_and_bernoulli_inputs_can_be_taken_apart(tmp_path: Path) -> None:
    run = quick("universal-and", tmp_path, bits=8, steps=20, circuit="learned", inputs="bernoulli", layers=3)
    assert "robustness" not in run.figure_names()
    assert opened("universal-and", tmp_path).bridge.cfg.n_layers == 3


def test_the_fewest_bits_have_pairs_that_are_off_at_every_number_of_active_bits(tmp_path: Path) -> None:
    run = quick("universal-and", tmp_path, bits=4, steps=5, trained=[4], compared=[4], neurons=8)
    robustness = run.figure("robustness")
    assert isinstance(robustness, Lines)
    assert robustness.x[0].tolist() == [2, 3]


def test_dictionaries_over_all_pairs_count_into_the_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "available", lambda device="cpu": 20_000_000_000)
    values = {"bits": 256, "trained": [16], "compared": [16], "neurons": 16}
    run = start("universal-and", tmp_path, size="quick", state="failed", **values)
    assert "A readout of all pairs of 256 bits needs about 4" in run.record().error
    assert _costs["universal-and"](check(find("universal-and").parameters, values)).seconds == 0


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"bits": 8, "active": 9}, "active=9 of bits=8 leaves no pair that is off; choose at most 7"),
        ({"bits": 8, "active": 8, "inputs": "bernoulli"}, "active=8 of bits=8 leaves no pair that is off"),
        ({"trained": [0]}, "trained has 0 hidden neurons"),
        ({"trained": [32, 32]}, "names a size twice"),
        ({"circuit": "learned", "neurons": 7}, "neurons=7 is no trained network's size"),
        ({"neurons": 4, "layers": 8}, "cannot be spread over layers=8"),
        ({"bits": 256, "compared": [60_000]}, "choose fewer bits or neurons"),
        ({"bits": 3}, "bits=3"),
        ({"sparse_density": 0}, "sparse_density=0"),
    ],
)
def test_sizes_that_make_no_sense_are_refused(values: dict[str, Any], said: str) -> None:
    with pytest.raises(ParameterError) as problem:
        check(find("universal-and").parameters, values)
    assert said in str(problem.value)
