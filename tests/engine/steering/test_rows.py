"""Tokens, positions and activations against readings one row at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch

from engine.models.editing import Edit, edited_logits
from engine.models.opening import open_model
from engine.steering.errors import SteeringError
from engine.steering.rows import encode_rows, read

if TYPE_CHECKING:
    from engine.models.opening import OpenModel

HOOK = "blocks.0.hook_resid_post"
PROMPTS = ("The dog", "A man a plan", "", "The lazy fox jumps over")
COMPLETIONS = (" is brown", " canal", "The quick dog", " it")


@pytest.fixture(scope="module")
def demo() -> OpenModel:
    return open_model("demo", device="cpu")


def alone(model: OpenModel, ids: list[int]) -> torch.Tensor:
    """Activations (positions, width) of one row by TransformerLens itself."""
    with torch.no_grad():
        _, cache = model.bridge.run_with_cache(torch.tensor([ids]))
    found: torch.Tensor = cache[HOOK][0]
    return found


def test_a_prompt_keeps_its_tokens_whatever_follows(tiny: OpenModel) -> None:
    rows = encode_rows(tiny, PROMPTS, COMPLETIONS, prepend_bos=True)
    for row, (prompt, completion) in enumerate(zip(PROMPTS, COMPLETIONS, strict=True)):
        head, tail = tiny.encode(prompt), tiny.encode(completion, prepend_bos=False)
        assert rows.ids[row, : rows.lengths[row]].tolist() == head + tail
        assert rows.starts[row] == len(head)
        assert rows.real()[row].tolist() == [at < len(head + tail) for at in range(rows.ids.shape[1])]


@pytest.mark.parametrize("prepend_bos", [True, False])
@pytest.mark.parametrize("placement", ["all", "last", "answer"])
def test_placements_are_what_they_say_position_by_position(tiny: OpenModel, placement: str, prepend_bos: bool) -> None:
    prompts, completions = [p for p in PROMPTS if p], [c for p, c in zip(PROMPTS, COMPLETIONS, strict=True) if p]
    rows = encode_rows(tiny, prompts, completions, prepend_bos=prepend_bos)
    where = rows.where(placement, bos=tiny.bos)  # type: ignore[arg-type]
    for row in range(len(rows)):
        start, length = int(rows.starts[row]), int(rows.lengths[row])
        expected = {
            "all": range(int(prepend_bos), length),
            "last": range(start - 1, start),
            "answer": range(start - 1, length),
        }[placement]
        assert where[row].nonzero().flatten().tolist() == list(expected)


def test_an_empty_prompt_is_changed_at_its_bos_where_the_answer_is_predicted(tiny: OpenModel) -> None:
    rows = encode_rows(tiny, [""], [" dog"], prepend_bos=True)
    assert rows.where("last", bos=tiny.bos)[0].tolist() == [True, *[False] * (int(rows.lengths[0]) - 1)]
    assert not rows.where("all", bos=tiny.bos)[0, 0]


def test_padding_on_the_right_changes_no_logit_of_a_row(tiny: OpenModel) -> None:
    rows = encode_rows(tiny, PROMPTS, COMPLETIONS, prepend_bos=True)
    edit = Edit(HOOK, lambda x: x + 1, rows.where("answer", bos=tiny.bos))
    together = edited_logits(tiny, rows.ids, [edit])
    for row in range(len(rows)):
        length = int(rows.lengths[row])
        own = encode_rows(tiny, [PROMPTS[row]], [COMPLETIONS[row]], prepend_bos=True)
        lonely = edited_logits(tiny, own.ids, [Edit(HOOK, lambda x: x + 1, own.where("answer", bos=tiny.bos))])
        torch.testing.assert_close(together[row, :length], lonely[0], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("read_at", ["end", "answer", "prompt"])
def test_activations_are_those_of_each_row_alone(
    tiny: OpenModel, read_at: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engine.steering.rows.TOGETHER", 30)  # several batches, in another order than the rows
    prompts = ("The dog", "A man a plan", "A", "The lazy fox jumps over")
    suffixes = (" now", "", " a plan a canal", " dog")
    found = read(
        tiny, prompts, COMPLETIONS, suffixes, hook=HOOK, read_at=read_at, prepend_bos=True  # type: ignore[arg-type]
    )  # fmt: skip
    for row, (prompt, completion, suffix) in enumerate(zip(prompts, COMPLETIONS, suffixes, strict=True)):
        head = tiny.encode(prompt)
        tail, end = (tiny.encode(text, prepend_bos=False) for text in (completion, suffix))
        x = alone(tiny, head + tail + end)
        expected = {
            "end": x[-1],
            "answer": x[len(head) : len(head + tail)].mean(0),
            "prompt": x[len(head) - 1],
        }[read_at]
        torch.testing.assert_close(found[row], expected, atol=1e-5, rtol=1e-5)


def test_labelled_prompts_need_no_completion_to_be_read(tiny: OpenModel) -> None:
    end, prompt = (
        read(tiny, ["A man"], [""], [""], hook=HOOK, read_at=at, prepend_bos=True)  # type: ignore[arg-type]
        for at in ("end", "prompt")
    )
    assert torch.equal(end, prompt)


def test_what_cannot_be_run_is_refused_in_a_sentence_that_names_it(demo: OpenModel, tiny: OpenModel) -> None:
    with pytest.raises(SteeringError, match="The completion of “one dog” is empty"):
        encode_rows(demo, ["one dog"], [" "], prepend_bos=True)
    with pytest.raises(SteeringError, match="Nothing stands before “wept”"):
        encode_rows(demo, [""], ["wept"], prepend_bos=False)
    with pytest.raises(SteeringError, match="does not know the word “elephant” in “the elephant sang”"):
        encode_rows(demo, ["the elephant"], [" sang"], prepend_bos=True)
    with pytest.raises(SteeringError, match="“Zebra”"):
        read(demo, ["the dog"], ["sang"], [" Zebra"], hook=HOOK, read_at="end", prepend_bos=True)
    with pytest.raises(SteeringError, match=r"“….*” has 1\d\d tokens, but tiny-llama reads at most 64"):
        encode_rows(tiny, ["The lazy dog " * 30], [" it"], prepend_bos=True)
    with pytest.raises(SteeringError, match="no rows"):
        encode_rows(tiny, [], [], prepend_bos=True)
    with pytest.raises(SteeringError, match="Row 2 has no prompt"):
        read(tiny, ["A", ""], ["", "A"], ["", ""], hook=HOOK, read_at="prompt", prepend_bos=True)
    with pytest.raises(SteeringError, match="“A man” has no completion"):
        read(tiny, ["A man"], [""], [" A"], hook=HOOK, read_at="answer", prepend_bos=True)
