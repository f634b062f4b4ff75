"""From a choice to an intervention: planted directions, halves, what is kept, and what is refused."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any, get_args

import numpy as np
import pytest
import torch
from torch import Tensor

from engine.models.errors import ModelError
from engine.models.opening import open_model
from engine.runs.run import Run
from engine.steering import learned, prepare, rows
from engine.steering.choices import Method, Steering
from engine.steering.errors import SteeringError
from engine.steering.interventions import LatentAdd, Rotation, RotationTo, activation
from engine.steering.samples import swapped
from engine.steering.strengths import describe, strength_label
from engine.text.prompt_sets import PromptRow, PromptSet

if TYPE_CHECKING:
    from engine.models.opening import OpenModel

HOOK = "blocks.0.hook_resid_post"
DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
WIDTH = 32


class Silent:
    """A sink that nobody reads."""

    def __getattr__(self, name: str) -> Any:
        return lambda *_, **__: None


@pytest.fixture
def run() -> Run:
    return Run("look", Silent())  # type: ignore[arg-type]


@pytest.fixture(autouse=True)
def _nothing_kept() -> Iterator[None]:
    prepare.forget()
    yield
    prepare.forget()


def pairs(n: int = 8, positive: str = "a", negative: str = "z") -> PromptSet:
    return PromptSet("pairs", "{", tuple(PromptRow("The dog" + " it" * k, positive, negative) for k in range(n)))


def labelled(each: int = 4) -> PromptSet:
    """Days whose order goes round, in ``each`` templates."""
    found = tuple(
        PromptRow(f"{day} {style}", label=day, factors={"template": str(style)})
        for day in DAYS
        for style in range(each)
    )
    return PromptSet("days", "{", found, DAYS, cyclic=True)


@pytest.fixture
def planted(monkeypatch: pytest.MonkeyPatch) -> Tensor:
    """Activations of days (7, WIDTH) on a circle; `read` finds them with the offset of their template."""
    generator = torch.Generator().manual_seed(0)
    axes = torch.linalg.qr(torch.randn(WIDTH, 4, generator=generator))[0].T
    angles = 2 * torch.pi * torch.arange(7) / 7
    means = 3 * torch.stack([angles.cos(), angles.sin()], 1) @ axes[:2]
    offsets = torch.randn(10, 2, generator=generator) @ axes[2:] * 20

    def read(model: object, prompts: list[str], *texts: object, **options: object) -> Tensor:
        parts = [text.split() for text in prompts]
        return torch.stack([means[DAYS.index(day)] + offsets[int(style)] for day, style in parts])

    monkeypatch.setattr(rows, "read", read)
    return means


def test_at_the_embedding_the_direction_is_the_difference_of_two_embeddings(tiny: OpenModel, run: Run) -> None:
    choice = Steering(hook="hook_embed", read_at="answer")
    found = prepare.prepare_with(choice, pairs(), tiny, run)
    table = tiny.bridge.embed.weight.detach()
    [a], [z] = (tiny.encode(text, prepend_bos=False) for text in ("a", "z"))
    expected = table[a] - table[z]
    torch.testing.assert_close(found.intervention(torch.zeros(1, WIDTH), 1.0)[0], expected)
    assert found.step == pytest.approx(float(expected.norm()), rel=1e-5)
    assert found.positive is not None
    assert found.negative is not None
    np.testing.assert_allclose(found.positive, 0.5, atol=1e-5)  # all rows end in the same token
    np.testing.assert_allclose(found.negative, -0.5, atol=1e-5)
    assert (found.low, found.high) == pytest.approx((-0.5, 0.5), abs=1e-5)
    assert found.bank.shape == (8, WIDTH)
    assert found.real.shape == (8, WIDTH)
    assert found.facts["held_out_auroc"] == 1


def test_the_halves_share_no_row_and_hold_every_row(tiny: OpenModel, run: Run) -> None:
    seen = set()
    for seed in range(6):
        found = prepare.prepare_with(Steering(seed=seed), pairs(9), tiny, run)
        assert sorted((*found.fitted, *found.held_out)) == list(range(9))
        assert len(found.fitted) == 5
        seen.add(found.fitted)
    assert len(seen) > 1
    assert prepare.prepare_with(Steering(seed=3), pairs(9), tiny, run).fitted in seen


def test_each_label_is_shared_out_by_itself_and_none_goes_without() -> None:
    prompts = labelled(5)
    labels = np.array([row.label for row in prompts.rows])
    for every_class in (True, False):
        fitted = prepare.split(prompts, 0, every_class=every_class)
        assert {int(fitted[labels == day].sum()) for day in DAYS} == {3}
    assert prepare.split(labelled(1), 0, every_class=True).all()
    assert prepare.split(labelled(1), 0, every_class=False).sum() == 4


def test_rows_of_the_same_text_are_on_the_same_side() -> None:
    twice = replace(pairs(), rows=pairs(6).rows * 2)
    for seed in range(5):
        fitted = prepare.split(twice, seed, every_class=False)
        assert fitted[:6].tolist() == fitted[6:].tolist()


def test_all_methods_hold_out_the_same_rows(tiny: OpenModel, run: Run) -> None:
    both = PromptSet(
        "both", "{", tuple(replace(row, positive=" it", negative=" a") for row in labelled(4).rows), DAYS, True
    )
    found = [
        prepare.prepare_with(Steering(method=method, seed=2), both, tiny, run)  # type: ignore[arg-type]
        for method in ("mean-difference", "ablate", "random", "circular")
    ]
    assert {one.held_out for one in found} == {found[0].held_out}
    assert len(found[0].held_out) == 14


def test_another_method_reads_no_activation_again(tiny: OpenModel, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    real = rows.read
    monkeypatch.setattr(rows, "read", lambda *given, **options: calls.append(1) or real(*given, **options))
    choice = Steering(hook=HOOK, read_at="answer")
    first = prepare.prepare_with(choice, pairs(), tiny, run)
    assert len(calls) == 2
    assert prepare.prepare_with(choice, pairs(), tiny, run) is first
    others = [
        prepare.prepare_with(choice.model_copy(update=change), pairs(), tiny, run)
        for change in ({"method": "ablate"}, {"method": "affine-gaussian"}, {"method": "random"}, {"seed": 1})
    ]
    assert len({id(one) for one in (first, *others)}) == 5
    assert len(calls) == 2
    prepare.prepare_with(choice, pairs(positive="b"), tiny, run)  # positive rows are new
    assert len(calls) == 3
    prepare.prepare_with(choice.model_copy(update={"hook": "blocks.1.hook_resid_post"}), pairs(), tiny, run)
    assert len(calls) == 5


def test_the_control_with_swapped_completions_reads_nothing_and_has_the_rows_swapped(
    tiny: OpenModel, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    choice, prompts = Steering(hook=HOOK, read_at="answer"), pairs()
    prepare.prepare_with(choice, prompts, tiny, run)
    calls = []
    real = rows.read
    monkeypatch.setattr(rows, "read", lambda *given, **options: calls.append(1) or real(*given, **options))
    mixed = swapped(prompts, np.random.default_rng(0))
    kept = prepare.prepare_with(choice, mixed, tiny, run)
    assert not calls
    prepare.forget()
    again = prepare.prepare_with(choice, mixed, tiny, run)
    assert calls
    assert torch.allclose(kept.bank, again.bank, atol=1e-5)


def test_the_random_control_is_as_long_as_what_it_controls(tiny: OpenModel, run: Run) -> None:
    choice = Steering(hook=HOOK, read_at="answer")
    real = prepare.prepare_with(choice, pairs(), tiny, run)
    found = [
        prepare.prepare_with(choice.model_copy(update={"method": "random", "seed": seed}), pairs(), tiny, run)
        for seed in (0, 1)
    ]
    vectors = [one.intervention(torch.zeros(1, WIDTH), 1.0)[0] for one in found]
    assert found[0].step == pytest.approx(real.step, rel=1e-5)
    assert (found[0].low, found[0].high) == (real.low, real.high)
    assert torch.cosine_similarity(vectors[0], vectors[1], dim=0).abs() < 0.7


@pytest.mark.parametrize("method", ["affine-mean", "affine-gaussian", "affine-least-squares"])
def test_affine_maps_carry_the_mean_of_the_negative_rows_onto_the_positive(
    tiny: OpenModel, run: Run, method: str
) -> None:
    choice = Steering(hook=HOOK, read_at="answer", method=method)  # type: ignore[arg-type]
    found = prepare.prepare_with(choice, pairs(10), tiny, run)
    positive, negative = found.bank.chunk(2)
    torch.testing.assert_close(found.intervention(negative, 1.0).mean(0), positive.mean(0), atol=1e-4, rtol=1e-4)
    assert found.facts["held_out_r2"] > 0.8  # the prompts differ in their length only


def test_a_step_turns_each_planted_day_into_the_next_though_templates_differ(
    tiny: OpenModel, run: Run, planted: Tensor
) -> None:
    choice = Steering(method="circular", read_at="prompt")
    found = prepare.prepare_with(choice, labelled(), tiny, run)
    assert isinstance(found.intervention, Rotation)
    assert found.facts["frequencies"] == [1]
    assert found.facts["held_out_nearest"] == 1
    assert found.facts["explained"] > 0.99 > 0.9 > found.facts["explained_shuffled"]
    assert (found.low, found.high) == (0, 7)
    assert found.facts["slider"] == [0, 7]
    for steps in (1, 3, -2):
        expected = planted.roll(-steps, 0)
        torch.testing.assert_close(found.intervention(planted, float(steps)), expected, atol=1e-4, rtol=1e-4)


def test_with_a_target_strength_one_turns_every_day_into_it(tiny: OpenModel, run: Run, planted: Tensor) -> None:
    choice = Steering(method="circular", read_at="prompt", target="Thu")
    found = prepare.prepare_with(choice, labelled(), tiny, run)
    assert isinstance(found.intervention, RotationTo)
    torch.testing.assert_close(found.intervention(planted, 1.0), planted[3].expand(7, -1), atol=1e-4, rtol=1e-4)
    assert "Thu" in describe(found)


def test_a_latent_is_added_in_units_of_its_largest_activation(run: Run) -> None:
    demo = open_model("demo", device="cpu")
    moods = [("happy", "sad"), ("cheerful", "gloomy")]
    rows_ = tuple(
        PromptRow(f"one monday {name} went to the park . {word} felt", f" {good}", f" {bad}")
        for name, word in (("anna", "she"), ("tom", "he"), ("emma", "she"))
        for good, bad in moods
    )
    prompts = PromptSet("moods", "{", rows_)
    choice = Steering(method="feature-add", hook=HOOK, dictionary="demo", positions="last")
    best = None
    for latent in range(40):
        found = prepare.prepare_with(choice.model_copy(update={"latent": latent}), prompts, demo, run)
        if found.facts["largest"] > 0:
            best = found
    assert best is not None
    add = best.intervention
    assert isinstance(add, LatentAdd)
    code = add.dictionary.encode(best.bank).dense()
    assert add.unit == pytest.approx(float(code[:, add.latent].max()))
    moved = add(best.bank, 1.0) - best.bank
    torch.testing.assert_close(moved, (add.unit * add.dictionary.W_dec[add.latent]).expand_as(moved), atol=1e-5, rtol=0)
    clamp = prepare.prepare_with(
        choice.model_copy(update={"method": "feature-clamp", "latent": add.latent}), prompts, demo, run
    )
    off = clamp.intervention(clamp.bank, 0.0)
    moved_off = activation(add.dictionary, add.latent, clamp.bank) > 0
    assert torch.equal((off - clamp.bank).abs().sum(1) > 0, moved_off)
    assert moved_off.any()


def test_a_learned_network_moves_in_shares_of_its_step(
    tiny: OpenModel, run: Run, planted: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = learned.ShiftNetwork.of(planted, 7, hidden=8, source=torch.Generator().manual_seed(0))
    shift = learned.LearnedShift(
        network, learned.Readout.fit(planted, torch.arange(7), 7), DAYS, HOOK, "tiny", target=None
    )
    monkeypatch.setattr(learned, "load_learned", lambda work, id, target="": shift.towards(target))
    choice = Steering(method="learned", read_at="prompt", learned="learned-steering-1")
    found = prepare.prepare_with(choice, labelled(), tiny, run)
    y = torch.arange(7)
    with torch.no_grad():
        whole = network(planted, y, (y + 1) % 7)
    torch.testing.assert_close(found.intervention(planted, 0.5), (planted + whole) / 2, atol=1e-4, rtol=1e-4)
    with pytest.raises(SteeringError, match="trained on 32 dimensions at"):
        prepare.prepare_with(choice.model_copy(update={"hook": "blocks.1.hook_resid_post"}), labelled(), tiny, run)


def test_what_cannot_be_made_is_refused_in_a_sentence(tiny: OpenModel, run: Run, planted: Tensor) -> None:
    def refused(says: str, prompts: PromptSet, **values: Any) -> None:
        with pytest.raises(SteeringError, match=says):
            prepare.prepare_with(Steering(**values), prompts, tiny, run)

    refused("days has no row with a positive and a negative", labelled())
    refused("read at the end or at the answer", pairs(), read_at="prompt")
    refused("no row with a label", pairs(), method="circular")
    refused("“Noday” is no label", labelled(), method="circular", read_at="prompt", target="Noday")
    two = PromptSet("two", "{", tuple(row for row in labelled().rows if row.label in DAYS[:2]), DAYS[:2])
    refused("has 2 classes, which cannot go round", two, method="circular", read_at="prompt")
    one = PromptSet("one", "{", labelled().rows[:4], DAYS[:1])
    refused("has one label only", one, method="random", read_at="prompt")
    empty = replace(
        labelled(), rows=tuple(replace(row, positive=" it" * (row.label != "Tue")) for row in labelled().rows)
    )
    refused("with the label Tue can be read here", empty, method="circular", read_at="answer")
    refused("No dictionary is named", labelled(), method="feature-add", read_at="prompt")
    refused("no session is open", labelled(), method="learned", learned="x", read_at="prompt")


def test_the_same_completions_and_too_few_rows_are_refused(tiny: OpenModel, run: Run) -> None:
    with pytest.raises(SteeringError, match="have the same mean"):
        prepare.prepare_with(Steering(), pairs(positive="z"), tiny, run)
    with pytest.raises(SteeringError, match="too few for affine-gaussian"):
        prepare.prepare_with(Steering(method="affine-gaussian"), pairs(2), tiny, run)
    with pytest.raises(ModelError, match=r"blocks\.9"):
        prepare.prepare_with(Steering(hook="blocks.9.hook_resid_post"), pairs(), tiny, run)
    one = prepare.prepare_with(Steering(), pairs(1), tiny, run)
    assert (one.fitted, one.held_out, tuple(one.real.shape)) == ((0,), (), (0, WIDTH))


@pytest.mark.parametrize("method", [name for name in get_args(Method) if name not in ("learned", "circular")])
def test_every_method_says_what_its_strength_means(run: Run, method: Method) -> None:
    demo = open_model("demo", device="cpu")
    texts = ("one monday anna", "one friday tom", "one monday ben", "one friday emma")
    prompts = PromptSet("texts", "{", tuple(PromptRow(text + " felt", " happy", " sad") for text in texts))
    found = prepare.prepare_with(Steering(method=method, dictionary="demo"), prompts, demo, run)
    assert strength_label(method) in describe(found)
    assert np.isfinite([found.step, found.low, found.high, *found.facts["slider"]]).all()
    low, high = found.facts["slider"]
    assert low <= 0 < 1 <= high


def test_sentiment_of_held_out_sentences_is_told_apart_in_a_real_model(smollm2: OpenModel, run: Run) -> None:
    words = ("film", "meal", "hotel", "book", "service", "weather", "music", "game")
    both = (("wonderful", "terrible"), ("brilliant", "miserable"))
    prompts = PromptSet(
        "sentiment",
        "{",
        tuple(
            PromptRow(f"I think the {word} was", f" {a}", f" {b}", ", and I said so.")
            for word in words
            for a, b in both
        ),
    )
    found = prepare.prepare_with(Steering(hook="blocks.12.hook_resid_post"), prompts, smollm2, run)
    assert found.facts["held_out_auroc"] > 0.8
    assert found.facts["held_out_cosine"] > 0.7
    assert found.facts["norm"] > 1.5 * found.facts["shuffled_norm"]
