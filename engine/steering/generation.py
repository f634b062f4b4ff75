"""Texts that a model writes with an intervention in place, and without."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from engine.models.decoding import Decoder, EditsFor, Sampler, Start, end_tokens
from engine.models.editing import Edit
from engine.models.prompt_pass import predicts_tokens
from engine.steering.choices import Placement
from engine.steering.errors import SteeringError
from engine.steering.interventions import Intervention

if TYPE_CHECKING:
    from engine.models.opening import OpenModel
    from engine.runs.run import Run

CHUNK = 512  # tokens of a prompt in one forward pass: stopping waits for one
SHARED = 2 * CHUNK  # tokens of the longest prompt that is run in one pass, so that what it gave can be shared
KEPT_BYTES = 64_000_000  # of clean predictions of one text
KEPT_TEXTS = 3  # clean texts of a model


@dataclass(frozen=True)
class Sampling:
    """How tokens are chosen; see `Sampler`."""

    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0


@dataclass(frozen=True, eq=False)
class Steered:
    """An intervention at work: where, at which positions, how strong."""

    intervention: Intervention
    hook: str
    placement: Placement
    strength: float

    def edits_for(self, prompt: Sequence[int], bos: int | None) -> EditsFor:
        """The changes of a text that begins with ``prompt``, as `Decoder` takes them; placed as `Rows.where` does."""
        tail = len(prompt) - 1
        head = int(bos is not None and bool(prompt) and prompt[0] == bos)

        def change(x: Tensor) -> Tensor:
            return self.intervention(x, self.strength)

        def edits(first: int, last: int) -> list[Edit]:
            at = torch.arange(first, last)
            where = {"all": at >= head, "last": at == tail, "answer": at >= tail}[self.placement]
            return [Edit(self.hook, change, where[None])]

        return edits


@dataclass(frozen=True)
class Step:
    """One generated token.

    Attributes:
        number: which, from 0.
        token: its id.
        log_probability: that the model, steered where it was, gave to it before temperature and top-p, in nats.
        end: whether the text is over after it: an end token, or the context is full.
    """

    number: int
    token: int
    log_probability: float
    end: bool


class Text:
    """A prompt and what follows it, generated one token at a time and remembered.

    Attributes:
        prompt: token ids, at least one.
        steps: what was generated so far.
        first: (vocabulary,) log-probabilities of the first generated token, float32; None before it.
        predictions: log-probabilities (vocabulary,) of the token after each of the last positions of the prompt and
            after each generated token, where they are kept; at most ``kept`` of them.

    Args:
        steered: the intervention; None for the clean text.
        kept: predictions to keep; of the prompt's at most half as many.
    """

    def __init__(
        self,
        model: OpenModel,
        prompt: Sequence[int],
        sampling: Sampling,
        steered: Steered | None = None,
        *,
        kept: int = 0,
    ) -> None:
        _check(model, prompt)
        self.model = model
        self.prompt = tuple(prompt)
        self.steps: list[Step] = []
        self.first: Tensor | None = None
        self.predictions: list[Tensor] = []
        self.kept = kept
        self._steered = steered
        self._decoder = self._decode()
        self._draw = Sampler(sampling.temperature, sampling.top_p, sampling.seed)
        self._ends = end_tokens(model)
        self._starts: dict[str, Start | None] = {}
        self._next: Tensor | None = None
        self._lock = threading.Lock()

    @property
    def tokens(self) -> list[int]:
        """Ids generated so far."""
        return [step.token for step in self.steps]

    @property
    def over(self) -> bool:
        """Whether no token follows."""
        return bool(self.steps) and self.steps[-1].end

    @property
    def seen(self) -> int:
        """Positions of the prompt whose predictions are kept: its last ones."""
        return min(len(self.prompt), max(self.kept // 2, 1))

    def advance(self, run: Run | None = None, start: Start | None = None) -> Step | None:
        """Generate one token more; None when the text is over. ``start`` is what the clean text shares (`start`)."""
        with self._lock:
            if self.over:
                return None
            log_probabilities = self._predict(run, start)
            token = self._draw(log_probabilities)
            full = len(self.prompt) + len(self.steps) >= self.model.facts.context
            step = Step(len(self.steps), token, float(log_probabilities[token]), full or token in self._ends)
            self.steps.append(step)
            return step

    def start(self, hook: str, run: Run | None = None) -> Start | None:
        """What texts with this prompt and an edit at ``hook`` share; computed once. None where nothing is shared."""
        with self._lock:
            if hook not in self._starts:
                if run is not None:
                    run.point()
                self._starts[hook] = self._begin(hook)
            return self._starts[hook]

    def known_start(self, hook: str) -> Start | None:
        """`start`, where it has been computed."""
        return self._starts.get(hook)

    def _begin(self, hook: str) -> Start | None:
        if self._steered is not None or len(self.prompt) > SHARED:
            return None
        if self.first is not None:
            return self._decode().begin(self.prompt, hook)[1]
        decoder = self._decode()
        logits, start = decoder.begin(self.prompt, hook, last=self.seen)
        self._decoder = decoder
        self._follow(logits)
        return start

    def _predict(self, run: Run | None, start: Start | None) -> Tensor:
        """Log-probabilities of the next token."""
        missing = (*self.prompt, *self.tokens)[len(self._decoder.ids) :]
        if missing:
            last = self.seen if self.first is None else 1
            try:
                logits = fed(self._decoder, missing, last=last, start=start, run=run)
            except BaseException:  # stopped, or out of memory, within a prompt: what the decoder holds is incomplete
                self._decoder = self._decode()
                raise
            self._follow(logits)
        assert self._next is not None
        return self._next

    def _decode(self) -> Decoder:
        edits_for = self._steered.edits_for(self.prompt, self.model.bos) if self._steered is not None else None
        return Decoder(self.model, edits_for)

    def _follow(self, logits: Tensor) -> None:
        found = logits.log_softmax(-1)
        self._next = found[-1]
        if self.first is None:
            self.first = found[-1]
        if len(self.predictions) < self.kept:
            self.predictions += list(found)


def generate(
    model: OpenModel,
    prompt: Sequence[int],
    steered: Steered | None = None,
    *,
    tokens: int = 24,
    sampling: Sampling = Sampling(),
    run: Run | None = None,
) -> Iterator[Step]:
    """Continue ``prompt`` by up to ``tokens`` tokens, one by one; the same seed means the same random numbers.

    ``run`` can be paused and stopped between tokens.

    Raises:
        SteeringError: the prompt is empty, or the model predicts no tokens.
        ModelError: the prompt is longer than the model's context, or there is no such hook point.
    """
    text = Text(model, prompt, sampling, steered)
    for _ in range(tokens):
        step = text.advance(run)
        if step is None:
            return
        yield step


def clean_text(model: OpenModel, prompt: Sequence[int], sampling: Sampling) -> Text:
    """The text without an intervention: the one that this process has begun already, or a new one.

    A slider that is dragged compares with the same clean text again and again. The last few of a model are kept, with
    their predictions as far as they fit into `KEPT_BYTES`.
    """
    key = (tuple(prompt), sampling)
    with _guard:
        kept = model.texts
        text: Text | None = kept.pop(key, None)
        if text is None:
            text = Text(model, prompt, sampling, kept=max(KEPT_BYTES // (4 * model.facts.vocabulary), 2))
        kept[key] = text
        while len(kept) > KEPT_TEXTS:
            kept.popitem(last=False)
        return text


def fed(
    decoder: Decoder, ids: Sequence[int], *, last: int = 1, start: Start | None = None, run: Run | None = None
) -> Tensor:
    """As `Decoder.feed`, with at least one ``last``, in chunks between which ``run`` can be stopped."""
    if run is not None:
        run.point()
    if start is not None or len(ids) <= CHUNK or not decoder.kept:
        return decoder.feed(ids, last=last, start=start)
    found: list[Tensor] = []
    for begin in range(0, len(ids), CHUNK):
        chunk = ids[begin : begin + CHUNK]
        wanted = begin + len(chunk) - max(len(ids) - last, begin)
        if run is not None:
            run.point()
        logits = decoder.feed(chunk, last=max(wanted, 1))
        if wanted > 0:
            found.append(logits)
    return torch.cat(found)


_guard = threading.Lock()


def _check(model: OpenModel, prompt: Sequence[int]) -> None:
    if not predicts_tokens(model):
        raise SteeringError(f"{model.facts.title} predicts no tokens, so it writes no text; choose a language model.")
    if not prompt:
        raise SteeringError("The prompt is empty; type some text to see how the model goes on.")
