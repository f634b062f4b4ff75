"""Differences of texts by brute force, divergences by whole passes, and what is listed as changed."""

from __future__ import annotations

from functools import lru_cache
from itertools import pairwise

import numpy as np
import pytest
import torch

from engine.models.opening import OpenModel
from engine.runs.control import RunStopped
from engine.runs.run import Run
from engine.runs.sinks import MemorySink
from engine.steering import effects
from engine.steering.choices import Placement
from engine.steering.generation import Sampling, Steered, Text
from engine.steering.interventions import AddVector
from engine.text.prompt_sets import PromptRow

HOOK = "blocks.0.hook_resid_post"
PROMPT = "The quick brown fox"


def longest(a: tuple[int, ...], b: tuple[int, ...]) -> int:
    """Length of the longest common subsequence, by its definition."""

    @lru_cache(None)
    def of(i: int, j: int) -> int:
        if i == len(a) or j == len(b):
            return 0
        return max(of(i + 1, j), of(i, j + 1), (a[i] == b[j]) + of(i + 1, j + 1) if a[i] == b[j] else 0)

    return of(0, 0)


@pytest.mark.parametrize("seed", range(20))
def test_what_is_not_marked_is_a_longest_common_subsequence(seed: int) -> None:
    random = np.random.default_rng(seed)
    a, b = (tuple(random.integers(0, 4, random.integers(0, 15)).tolist()) for _ in range(2))
    left, right = effects.marks(a, b)
    kept = [token for token, mark in zip(a, left, strict=True) if not mark]
    assert kept == [token for token, mark in zip(b, right, strict=True) if not mark]
    assert len(kept) == longest(a, b)


def test_equal_texts_have_no_marks_and_an_inserted_token_has_one() -> None:
    assert effects.marks([1, 2, 3], [1, 2, 3]) == ([False] * 3, [False] * 3)
    assert effects.marks([1, 2, 3], [1, 9, 2, 3]) == ([False] * 3, [False, True, False, False])
    assert effects.marks([], [1]) == ([], [True])


def test_by_position_everything_after_an_inserted_token_differs() -> None:
    assert effects.by_position([1, 2, 3], [1, 9, 2, 3]) == [False, True, True, True]
    assert effects.by_position([1, 2, 3], [1, 2]) == [False, False]


def test_kl_is_that_of_torch_and_zero_between_equals() -> None:
    random = torch.Generator().manual_seed(0)
    p, q = (torch.randn(5, 30, generator=random, dtype=torch.float64).log_softmax(-1) for _ in range(2))
    expected = torch.nn.functional.kl_div(q, p, log_target=True, reduction="none").sum(-1)
    assert effects.kl_divergence(p, q) == pytest.approx(expected.numpy(), rel=1e-12)
    assert (effects.kl_divergence(p, p) == 0).all()


def test_kl_of_two_coins() -> None:
    p, q = torch.tensor([[0.5, 0.5]]).log(), torch.tensor([[0.25, 0.75]]).log()
    assert effects.kl_divergence(p, q) == pytest.approx([0.5 * np.log(0.5 / 0.25) + 0.5 * np.log(0.5 / 0.75)], rel=1e-6)


def test_tokens_that_are_impossible_add_nothing() -> None:
    p = torch.tensor([[0.5, 0.5, 0.0]]).log()
    q = torch.tensor([[0.25, 0.75, 0.0]]).log()
    assert effects.kl_divergence(p, q) == pytest.approx(effects.kl_divergence(p[:, :2], q[:, :2]))


def pushed(model: OpenModel, placement: Placement, strength: float = 1.0) -> Steered:
    """Adds a fixed direction."""
    vector = torch.randn(model.check_hook(HOOK), generator=torch.Generator().manual_seed(0))
    return Steered(AddVector(vector), HOOK, placement, strength)


def written(model: OpenModel, tokens: int, kept: int = 1000) -> Text:
    """A clean text."""
    text = Text(model, model.encode(PROMPT), Sampling(1.0, seed=3), kept=kept)
    for _ in range(tokens):
        text.advance()
    return text


@pytest.mark.parametrize("placement", ["all", "last", "answer"])
@pytest.mark.parametrize("kept", [1000, 12])
def test_divergence_is_that_of_whole_passes(tiny: OpenModel, placement: Placement, kept: int) -> None:
    text = written(tiny, 8, kept)
    steered = pushed(tiny, placement)
    text.start(HOOK)
    found = effects.divergence(text, steered, 8)
    ids = [*text.prompt, *text.tokens[:-1]]
    tail = len(text.prompt) - 1
    places = {"all": range(1, len(ids)), "last": [tail], "answer": range(tail, len(ids))}[placement]

    def hook(x: torch.Tensor, hook: object = None) -> torch.Tensor:
        x = x.clone()
        for place in places:
            x[0, place] = x[0, place] + steered.intervention.vector  # type: ignore[attr-defined]
        return x

    with torch.no_grad():
        clean = tiny.bridge(torch.tensor([ids]))[0].double().log_softmax(-1)
        other = tiny.bridge.run_with_hooks(torch.tensor([ids]), fwd_hooks=[(HOOK, hook)])[0].double().log_softmax(-1)
    expected = (clean.exp() * (clean - other)).sum(-1).numpy()
    first = len(text.prompt) - text.seen
    last = min(len(ids), first + kept)
    assert found.ids.tolist() == ids[first:last]
    assert found.kl == pytest.approx(expected[first:last], abs=1e-4)
    assert found.continuation == pytest.approx(expected[tail:last], abs=1e-4)
    assert found.mean == pytest.approx(expected[tail:last].mean(), abs=1e-4)
    if placement != "all":
        assert np.abs(found.kl[: found.prompt - 1]).max() < 1e-6
    assert found.mean > 1e-3


def test_divergence_at_strength_zero_is_zero(tiny: OpenModel) -> None:
    found = effects.divergence(written(tiny, 8), pushed(tiny, "all", 0.0), 8)
    assert np.abs(found.kl).max() < 1e-9


def test_divergence_of_one_token_reads_the_prompt_only(tiny: OpenModel) -> None:
    found = effects.divergence(written(tiny, 5), pushed(tiny, "all"), 1)
    assert found.ids.tolist() == tiny.encode(PROMPT)
    assert len(found.continuation) == 1


def test_divergence_can_be_stopped(tiny: OpenModel) -> None:
    run = Run("look-1", MemorySink())
    run.control.stop()
    with pytest.raises(RunStopped):
        effects.divergence(written(tiny, 3), pushed(tiny, "all"), 3, run)


def test_changes_go_from_most_raised_to_most_lowered() -> None:
    clean = torch.tensor([0.4, 0.3, 0.2, 0.1]).log()
    steered = torch.tensor([0.1, 0.3, 0.2, 0.4]).log()
    found = effects.changes(clean, steered, top=2)
    assert found.ids.tolist() == [3, 0]
    assert found.before == pytest.approx([0.1, 0.4])
    assert found.after == pytest.approx([0.4, 0.1])
    assert found.change == pytest.approx([np.log(4), -np.log(4)])
    assert not len(effects.changes(clean, clean).ids)


def test_tokens_that_stay_unlikely_are_not_listed() -> None:
    logits = torch.zeros(1000)
    logits[:200] = 20 + torch.arange(200) / 100
    moved = logits.clone()
    moved[900] += 15  # by far the largest change, to a probability that nobody will see
    moved[5] += 3
    found = effects.changes(logits.log_softmax(-1), moved.log_softmax(-1))
    assert found.ids[0] == 5
    assert 900 not in found.ids
    assert all(a >= b for a, b in pairwise(found.change.tolist()))


def test_first_tokens_of_completions_leave_out_what_begins_both(tiny: OpenModel) -> None:
    rows = [PromptRow("x", "quick fox", "lazy dog"), PromptRow("x", "quick", "0 fox"), PromptRow("x", "A", "A man")]
    positive, negative = effects.first_tokens(tiny, rows)
    assert positive == [tiny.encode("quick", prepend_bos=False)[0]]
    assert negative == sorted(tiny.encode(text, prepend_bos=False)[0] for text in ("lazy", "0"))
    assert effects.first_tokens(tiny, [PromptRow("x")]) == ([], [])


def test_mass_adds_probabilities() -> None:
    assert effects.mass(torch.tensor([0.1, 0.2, 0.7]).log(), [0, 1]) == pytest.approx(0.3)


def test_random_directions_have_their_length_and_their_seed() -> None:
    one, again, other = (effects.random_direction(64, 2.5, [seed, 7]) for seed in (1, 1, 2))
    assert float(one.norm()) == pytest.approx(2.5, rel=1e-6)
    assert torch.equal(one, again)
    assert abs(float(one @ other)) < 2.5**2 * 0.6
