"""The look that shows a prompt set, and the job that keeps one in the session."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import Field

from engine.figures.kinds import Axis, Table
from engine.figures.words import shortened
from engine.runs.declaration import experiment
from engine.runs.parameters import Parameters, PrependBos, PromptsRef

if TYPE_CHECKING:
    from engine.models.opening import OpenModel
    from engine.runs.run import Run
    from engine.text.prompt_sets import PromptRow, PromptSet

SHOWN = 2_000  # rows that the table of a set has
LONGEST = 200  # characters of a cell in it
LISTED = 24  # values of a factor that are listed with their counts


class PromptRowsParameters(Parameters):
    """Which set, and by which model's tokens to count."""

    prompts: PromptsRef = "story-sentiment"
    model: str = Field(
        "",
        description="Model whose tokenizer counts the completions' tokens: demo, smollm2, a .gguf file, a Hugging Face "
        "folder, org/name or toy:RUN; empty: none",
        json_schema_extra={"widget": "model"},
    )
    prepend_bos: PrependBos = True


class PromptSetParameters(Parameters):
    """Which set to keep, and what to call it."""

    prompts: PromptsRef = "story-sentiment"
    title: str = Field("", description="What the session calls it; empty: the set's own name")


@experiment("prompt-rows", title="Look at a prompt set", area="Text", lane="look")
def prompt_rows(p: PromptRowsParameters, run: Run) -> None:
    """Shows the rows of a prompt set, its classes and its factors with their values, and what a tokenizer makes of it.

    A row is a prompt with two completions. A direction is made from activations of the prompt with the one and with
    the other; steering is measured by the log-probabilities of both after the prompt. **suffix** stands behind the
    completion when activations are read, so that they need not be read on the answer. **label** is the class of the
    prompt. Every other column is a **factor**: something else in which rows differ (template, name, order), declared
    beforehand, so that what it explains of the result can be told.

    In the table ␣ is a space at the end of a text, ↵ a line feed and ⇥ a tab. With a model, the columns of tokens say
    how many tokens each completion has, and how many words of the row the tokenizer does not know.

    **How to read it.** Log-probabilities of completions of unequal length are sums over different numbers of tokens:
    the longer one is less likely for that reason alone. Where the tokens of the prompt change when the completion is
    put behind it (*boundary moved*), move the space from the prompt's end to the completion's beginning, or back.

    **Pitfalls.** A set with one template measures that template. Factors with as many values as rows explain
    everything and nothing.
    """
    from engine.text.prompts import as_jsonl, open_prompts

    prompts = open_prompts(p.prompts, work=run.work)
    columns: dict[str, list[int]] = {}
    facts = described(prompts)
    if p.model:
        from engine.models.opening import open_model

        columns, counted = tokenised(open_model(p.model, run=run), prompts, run, prepend_bos=p.prepend_bos)
        facts |= counted
    run.show("rows", rows_figure(prompts, columns))
    # All of it, whatever its size: what an editor of the set takes.
    run.keep("rows", np.frombuffer(as_jsonl(prompts).encode(), np.uint8), format="JSON lines in UTF-8")
    for name, value in facts.items():
        run.fact(name, value)


@experiment("prompt-set", title="Keep a prompt set", area="Text")
def prompt_set(p: PromptSetParameters, run: Run) -> None:
    """Keeps a prompt set in the session, from where every steering experiment opens it as ``prompts:`` and this run's id.

    A file may change or be moved; the kept set stays as it was when it was measured with. The figure shows its rows as
    *Look at a prompt set* does.
    """
    from engine.text.prompts import open_prompts, store

    prompts = open_prompts(p.prompts, work=run.work)
    title = p.title.strip() or prompts.name
    attributes, arrays = store(prompts, title)
    run.show("rows", rows_figure(prompts, {}))
    run.produce("corpora", run.id, {"reference": f"prompts:{run.id}", **attributes}, arrays)
    for name, value in described(prompts).items():
        run.fact(name, value)
    run.say(f"{title}: {len(prompts.rows):,} rows kept as prompts:{run.id}.")


def described(prompts: PromptSet) -> dict[str, Any]:
    """Plain facts: name, rows, pairs, classes in order, whether they are a cycle, note, and factors.

    ``factors`` gives each factor's number of rows by value, for factors of at most 24 values; of others the number of
    values.
    """
    counts = {name: Counter(row.factors.get(name, "") for row in prompts.rows) for name in prompts.factors}
    return {
        "name": prompts.name,
        "rows": len(prompts.rows),
        "pairs": sum(1 for row in prompts.rows if row.positive and row.negative),
        "classes": list(prompts.classes[:LISTED]),
        "class_count": len(prompts.classes),
        "cyclic": prompts.cyclic,
        "factors": {name: dict(found) if len(found) <= LISTED else len(found) for name, found in counts.items()},
        "note": prompts.note,
    }


def rows_figure(prompts: PromptSet, columns: dict[str, list[int]]) -> Table:
    """The first 2,000 rows with white space made visible; ``columns`` are numbers a row that stand behind them."""
    from engine.text.prompts import visible

    rows = prompts.rows[:SHOWN]
    texts: dict[str, list[str]] = {
        "Prompt": [row.prompt for row in rows],
        "Positive": [row.positive for row in rows],
        "Negative": [row.negative for row in rows],
        "Suffix": [row.suffix for row in rows],
        "Label": [row.label for row in rows],
    }
    texts = {name: values for name, values in texts.items() if any(values)}
    axes = [Axis(name) for name in (*texts, *prompts.factors, *columns)]
    values: list[Any] = [[shortened(visible(text), LONGEST) for text in column] for column in texts.values()]
    values += [[shortened(row.factors.get(name, ""), LONGEST) for row in rows] for name in prompts.factors]
    values += [np.asarray(numbers[:SHOWN]) for numbers in columns.values()]
    total = len(prompts.rows)
    note = f"{total:,} rows" if len(rows) == total else f"The first {len(rows):,} of {total:,} rows"
    if prompts.factors:
        note += f"; factors: {', '.join(prompts.factors)}"
    note += ". ␣ is a space at the end of a text, ↵ a line feed."
    if prompts.note:
        note += f" {prompts.note}"
    return Table(
        title=f"{prompts.name}: rows",
        note=note,
        axes=tuple(axes),
        columns=tuple(np.asarray(column) for column in values),
    )


def tokenised(
    model: OpenModel, prompts: PromptSet, run: Run, *, prepend_bos: bool = True
) -> tuple[dict[str, list[int]], dict[str, Any]]:
    """What the model's tokenizer makes of the rows: numbers a row by column, and facts about all.

    ``tokens_unknown_share`` is the share of all tokens that stand for words which the tokenizer does not know;
    ``boundary_moved`` counts rows whose prompt has other tokens once a completion follows.
    """
    run.stage("Counting tokens")
    rows = run.track(prompts.rows, total=len(prompts.rows), unit="rows")
    found = [_tokens(model, row, prepend_bos=prepend_bos) for row in rows]
    positive, negative, unknown, moved, total = (list(column) for column in zip(*found, strict=True))
    pairs = [(a, b) for a, b, row in zip(positive, negative, prompts.rows, strict=True) if row.positive]
    columns = {"Tokens, positive": positive, "Tokens, negative": negative}
    if any(unknown):
        columns["Unknown tokens"] = unknown
    facts = {
        "model": model.facts.title,
        "tokens_longest": max(total),
        "completions_of_one_token": sum(1 for a, b in pairs if a == b == 1),
        "completions_of_unequal_length": sum(1 for a, b in pairs if a != b),
        "boundary_moved": sum(moved),
        "tokens_unknown": sum(unknown),
        "tokens_unknown_share": sum(unknown) / max(1, sum(total)),
    }
    return columns, facts


def _tokens(model: OpenModel, row: PromptRow, *, prepend_bos: bool) -> tuple[int, int, int, int, int]:
    """Tokens of both completions, unknown tokens, whether the boundary moved, and tokens of the longer whole text."""
    prompt = model.encode(row.prompt, prepend_bos=prepend_bos)
    counts, moved, longest, unknown = [], 0, len(prompt), 0
    unknown_id = model.tokenizer.unk_token_id
    texts = [row.prompt] if not row.positive else []
    for completion in (row.positive, row.negative):
        ids = model.encode(row.prompt + completion, prepend_bos=prepend_bos)
        moved |= ids[: len(prompt)] != prompt
        counts.append(len(ids) - len(prompt) if completion else 0)
        if completion:
            texts.append(row.prompt + completion + row.suffix)
    for text in texts:
        ids = model.encode(text, prepend_bos=prepend_bos)
        longest = max(longest, len(ids))
        unknown = max(unknown, sum(1 for token in ids if token == unknown_id) if unknown_id is not None else 0)
    return counts[0], counts[1], unknown, int(moved), longest
