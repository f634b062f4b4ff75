"""How the look `steer` answers: the first steered token at once, then both texts, then what they are measured by."""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from engine.steering import effects, steer_figures
from engine.steering.generation import Sampling, Steered, Text, clean_text
from engine.steering.interventions import AddVector
from engine.steering.strengths import describe

if TYPE_CHECKING:
    from engine.models.opening import OpenModel
    from engine.runs.run import Run
    from engine.steering.prepare import Prepared
    from engine.steering.steer import Steer

FLUSH_EVERY = 0.1  # seconds between answers while the texts grow
CONTROL = 7  # stream of the seed


class SteeringLook:
    """One answer of the bench. `write_first`, `write_rest` and `measure` are to be called in this order."""

    def __init__(self, asked: Steer, model: OpenModel, prepared: Prepared, run: Run) -> None:
        self.asked, self.model, self.prepared, self.run = asked, model, prepared, run
        self.prompt = model.encode(asked.prompt, prepend_bos=asked.prepend_bos)
        sampling = Sampling(asked.temperature, asked.top_p, asked.seed)
        self.intervention = Steered(prepared.intervention, prepared.hook, asked.positions, asked.strength)
        self.clean = clean_text(model, self.prompt, sampling)
        self.steered = Text(model, self.prompt, sampling, self.intervention)
        self._flushed = 0.0
        self._spent = 0.0

    def write_first(self) -> None:
        """Generate the first steered token and answer with it; of the clean text what is known already."""
        self.run.stage("Writing")
        self._say_choice()
        self.steered.advance(self.run, self.clean.known_start(self.prepared.hook))
        self.run.fact("milliseconds_to_first", round(1000 * self.run.seconds, 1))
        self._say_texts()
        self._flush()

    def write_rest(self) -> None:
        """Let both texts grow side by side; a clean text that was written for an earlier look is taken as it is."""
        self.clean.start(self.prepared.hook, self.run)  # what later strengths share with this one
        if self.clean.first is None:  # of a long prompt nothing is shared
            self.clean.advance(self.run)
        self._show_changes()
        while not (self._steered_is_done and self._clean_is_done):
            self._grow()
            if time.monotonic() - self._flushed >= FLUSH_EVERY:
                self._say_texts()
                self._flush()
        if self._spent > 0 and len(self.steered.steps) > 1:
            self.run.fact("tokens_per_second", round((len(self.steered.steps) - 1) / self._spent, 2))
        self._say_texts()
        clean, steered = (
            self.model.token_texts([step.token for step in steps])
            for steps in (self.clean.steps[: self.asked.new_tokens], self.steered.steps)
        )
        self.run.show("texts", steer_figures.texts_figure(clean, steered, self.asked))
        self._flush()

    def measure(self) -> None:
        """KL along the clean text, and its control: a random direction that moves activations as far."""
        found = effects.divergence(self.clean, self.intervention, self.asked.new_tokens, self.run)
        show = partial(steer_figures.kl_figure, found, self.model.token_texts(found.ids.tolist()), self.asked)
        self.run.show("kl", show(None))
        self.run.fact("mean_kl", found.mean)
        self._flush()
        length = self._length()
        if length > 0:
            vector = effects.random_direction(self.prepared.bank.shape[1], length, [self.asked.seed, CONTROL])
            random = Steered(AddVector(vector), self.prepared.hook, self.asked.positions, 1.0)
            control = effects.divergence(self.clean, random, self.asked.new_tokens, self.run)
            self.run.show("kl", show(control))
            self.run.fact("mean_kl_random", control.mean)

    @property
    def _steered_is_done(self) -> bool:
        return self.steered.over or len(self.steered.steps) >= self.asked.new_tokens

    @property
    def _clean_is_done(self) -> bool:
        return self.clean.over or len(self.clean.steps) >= self.asked.new_tokens

    def _grow(self) -> None:
        """One token more of the steered text, and of the clean one where it is shorter."""
        if not self._steered_is_done:
            began = time.perf_counter()
            self.steered.advance(self.run)
            self._spent += time.perf_counter() - began
        if not self._clean_is_done and (self._steered_is_done or len(self.clean.steps) < len(self.steered.steps)):
            self.clean.advance(self.run)

    def _length(self) -> float:
        """Mean distance that the intervention moves an activation at this strength, over the bank."""
        bank = self.prepared.bank
        moved = self.prepared.intervention(bank, self.asked.strength) - bank
        return float(moved.norm(dim=1).double().mean())

    def _flush(self) -> None:
        self.run.flush()
        self._flushed = time.monotonic()

    def _say_choice(self) -> None:
        asked, prepared = self.asked, self.prepared
        unknown = self.model.tokenizer.unk_token_id
        for name, value in {
            "prompt_tokens": self.model.token_texts(self.prompt),
            "unknown": sum(token == unknown for token in self.prompt) if unknown is not None else 0,
            "strength": asked.strength,
            "slider": prepared.facts["slider"],
            "data_range": [prepared.low, prepared.high],
            "describe": describe(prepared),
            "set_sizes": {
                "fitted": len(prepared.fitted),
                "held_out": len(prepared.held_out),
                "rows": len(prepared.prompts.rows),
            },
            "intervention": prepared.facts,
        }.items():
            self.run.fact(name, value)

    def _say_texts(self) -> None:
        tokens = self.asked.new_tokens
        clean, steered = self.clean.steps[:tokens], self.steered.steps
        ids = [step.token for step in clean], [step.token for step in steered]
        # While they grow, each is compared with as much of the other as there is of itself.
        both = min(len(part) for part in ids) if not (self._steered_is_done and self._clean_is_done) else tokens
        of_clean, of_steered = effects.marks(ids[0][:both], ids[1][:both])
        for name, steps, marked in (("clean", clean, of_clean), ("steered", steered, of_steered)):
            tokens_ids = [step.token for step in steps]
            value: dict[str, Any] = {
                "tokens": self.model.token_texts(tokens_ids),
                "ids": tokens_ids,
                "log_probabilities": [step.log_probability for step in steps],
                "ended": bool(steps) and steps[-1].end,
            }
            self.run.fact(name, value)
            self.run.fact("marks" if name == "steered" else "clean_marks", _padded(marked, len(steps)))
        self.run.fact("differs_at", _first(effects.by_position(ids[0], ids[1])) if both else None)

    def _show_changes(self) -> None:
        assert self.clean.first is not None
        assert self.steered.first is not None
        clean, steered = self.clean.first, self.steered.first
        found = effects.changes(clean, steered)
        rows = self.prepared.prompts.rows
        masses = {
            name: [effects.mass(clean, ids), effects.mass(steered, ids)] if ids else None
            for name, ids in zip(("positive", "negative"), effects.first_tokens(self.model, rows), strict=True)
        }
        texts = self.model.token_texts(found.ids.tolist())
        self.run.fact("changes", {"tokens": texts, "before": found.before.tolist(), "after": found.after.tolist()})
        self.run.fact("completions", masses)
        self.run.show("logits", steer_figures.changes_figure(found, texts, masses, self.asked))
        projections = steer_figures.projections_figure(self.prepared, self.asked)
        if projections is not None:
            self.run.show("projections", projections)


def _padded(marked: Sequence[bool], count: int) -> list[bool]:
    return [*marked, *[False] * (count - len(marked))]


def _first(differs: Sequence[bool]) -> int | None:
    return differs.index(True) if True in differs else None
