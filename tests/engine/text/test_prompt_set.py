"""The look at a prompt set and the job that keeps one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from engine.figures.kinds import Table
from engine.runs.control import Control
from engine.runs.recording import Recording, RecordingWriter, RunRecord
from engine.runs.run import Run
from engine.text.errors import TextError
from engine.text.prompt_files import read_jsonl
from engine.text.prompt_set import SHOWN, PromptRowsParameters, PromptSetParameters, prompt_rows, prompt_set, tokenised
from engine.text.prompts import open_prompts

if TYPE_CHECKING:
    from engine.models.opening import OpenModel


def run_of(work: Path, name: str) -> tuple[Run, Recording]:
    folder = work / "runs" / name
    return Run(name, RecordingWriter(folder, RunRecord(name, name, {})), Control(), work=work), Recording(folder)


def looked(work: Path, **parameters: Any) -> tuple[Table, dict[str, Any], str]:
    """Figure, facts and rows of the look."""
    run, recording = run_of(work, "look-1")
    prompt_rows(PromptRowsParameters(**parameters), run)
    figure = recording.figure("rows")
    assert isinstance(figure, Table)
    return figure, recording.record().facts, bytes(np.asarray(recording.kept("rows"))).decode()


def test_the_look_gives_rows_classes_and_counts_of_factors(tmp_path: Path) -> None:
    figure, facts, rows = looked(tmp_path, prompts="days")
    assert [axis.label for axis in figure.axes] == [
        "Prompt",
        "Positive",
        "Negative",
        "Suffix",
        "Label",
        "template",
        "day",
    ]
    assert figure.columns[1][0] == "␣Tuesday"
    assert (facts["rows"], facts["pairs"], facts["class_count"], facts["cyclic"]) == (42, 42, 7, True)
    assert facts["classes"][0] == "Monday"
    assert facts["factors"]["template"] == dict.fromkeys(
        ["tomorrow", "sequence", "followed", "after", "list", "today"], 7
    )
    assert read_jsonl(rows, where="", name="", reference="").rows == open_prompts("days").rows


def test_a_long_set_is_cut_in_the_figure_and_whole_in_what_is_kept(tmp_path: Path) -> None:
    figure, facts, rows = looked(tmp_path, prompts="sums#53")
    assert len(figure.columns[0]) == SHOWN == 2000
    assert figure.note.startswith("The first 2,000 of 2,809 rows")
    assert facts["factors"] == {"a": 53, "b": 53}
    assert rows.count("\n") == 2809


def test_the_demo_model_knows_every_word_of_the_stories_and_few_of_english(tmp_path: Path) -> None:
    figure, facts, _ = looked(tmp_path, model="demo")
    assert "Unknown tokens" not in [axis.label for axis in figure.axes]
    assert (facts["completions_of_one_token"], facts["tokens_unknown"], facts["boundary_moved"]) == (120, 0, 0)
    assert facts["tokens_longest"] == 1 + len((open_prompts("story-sentiment").rows[4].prompt + " a .").split())
    figure, facts, _ = looked(tmp_path / "other", prompts="sentiment", model="demo")
    assert [axis.label for axis in figure.axes][-1] == "Unknown tokens"
    assert facts["tokens_unknown_share"] > 0.5


ROWS = """{"prompt": "It is ", "positive": "fine", "negative": "disgusting"}
{"prompt": "It is", "positive": " fine", "negative": " really bad", "suffix": "!"}
{"prompt": "It is", "label": "3"}
"""


def test_tokens_of_completions_are_counted_behind_their_prompt(smollm2: OpenModel, tmp_path: Path) -> None:
    run, _ = run_of(tmp_path, "look-1")
    columns, facts = tokenised(smollm2, open_prompts(ROWS), run)
    encode = smollm2.encode
    assert columns["Tokens, positive"][1:] == [1, 0]
    assert columns["Tokens, negative"][1:] == [2, 0]
    assert facts["boundary_moved"] == int(encode("It is fine")[:4] != encode("It is ")) == 1
    assert facts["completions_of_unequal_length"] == 2
    assert facts["tokens_longest"] == max(len(encode(text)) for text in ("It is really bad!", "It is disgusting"))


def test_a_kept_set_carries_its_title_and_opens_with_the_same_rows(tmp_path: Path) -> None:
    run, recording = run_of(tmp_path, "prompt-set-1")
    prompt_set(PromptSetParameters(prompts="sums#5", title=" Fives "), run)
    found = open_prompts("prompts:prompt-set-1", work=tmp_path)
    original = open_prompts("sums#5")
    assert (found.rows, found.classes, found.cyclic, found.note) == (
        original.rows,
        original.classes,
        True,
        original.note,
    )
    assert found.name == "Fives"
    assert recording.record().facts["rows"] == 25


def test_a_set_that_is_wrong_ends_the_run_with_its_sentence(tmp_path: Path) -> None:
    run, _ = run_of(tmp_path, "prompt-set-1")
    with pytest.raises(TextError, match="The rows, line 1, column “negative”, is empty"):
        prompt_set(PromptSetParameters(prompts='{"prompt": "a", "positive": "b"}'), run)
