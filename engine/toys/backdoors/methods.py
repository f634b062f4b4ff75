"""What a backdoor is looked for with: dictionaries and directions of a residual stream, and the words themselves."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import kl_div, normalize

from engine.dictionaries.architectures import Moments, make
from engine.dictionaries.choices import Choices
from engine.dictionaries.form import DictionaryConfig
from engine.dictionaries.trainer import Plan, Trainer
from engine.toys.backdoors import data, twins
from engine.toys.backdoors.scoring import kl

LR = 3e-3  # of the dictionaries' optimisers
AT_ONCE = 1_024  # sequences in one pass
CLEAR = 6  # words by which one group outnumbers the other where two words cannot overturn the majority


@dataclass(frozen=True)
class Candidates:
    """Latents of one method.

    Attributes:
        directions: (F, d) what each writes when it is forced on.
        read: activations (n, d) to the latents' values (n, F), 0 where not active.
        active: activations (n, d) to which latents are active (n, F) bool.
    """

    directions: Tensor
    read: Callable[[Tensor], Tensor]
    active: Callable[[Tensor], Tensor]


def local_sae(x: Tensor, width: int, k: int, steps: int, batch: int, source: torch.Generator) -> Candidates:
    """A TopK autoencoder of activations ``x`` (n, d), trained by the dictionaries' own trainer (Gao et al. 2024)."""
    d = x.shape[1]
    mean = x.double().mean(dim=0)
    variance = float((x.double() - mean).square().sum(dim=1).mean())
    scale = (d / variance) ** 0.5
    scaled_mean = (mean * scale).float()
    architecture = make(Choices("topk", width, k), Moments(scaled_mean, scaled_mean, float(d)))
    weights = architecture.initial(d, d, source)
    trainer = Trainer(weights, architecture, Plan.usual(steps, LR, 20 * batch))
    for _ in range(steps):
        trainer.step(x[torch.randint(len(x), (batch,), generator=source)] * scale)
    config = DictionaryConfig("topk", d, d, width, k, True, "topk", twins.HOOK, twins.HOOK, "toy")
    found = trainer.dictionary(config, scale, scale)

    def read(some: Tensor) -> Tensor:
        return found.encode(some).dense()

    return Candidates(found.W_dec, read, lambda some: read(some) > 0)


def directions(x: Tensor, found: Tensor, k: int) -> Candidates:
    """Unit directions (F, d) read as latents: positive projections of the centred activations ``x`` (n, d).

    They are active where they are among the k largest, so that frequencies compare with those of dictionaries; what
    they are judged by is the whole projection.
    """
    mean = x.mean(dim=0)

    def read(some: Tensor) -> Tensor:
        return ((some - mean) @ found.T).clamp_min(0)

    def active(some: Tensor) -> Tensor:
        values = read(some)
        return (values >= values.topk(k, dim=1).values[:, -1:]) & (values > 0)

    return Candidates(found, read, active)


def principal(x: Tensor) -> Tensor:
    """Principal components of ``x`` (n, d) and their opposites (2d, d)."""
    centred = x.double() - x.double().mean(dim=0)
    vectors = torch.linalg.eigh(centred.T @ centred).eigenvectors.T.float()
    return torch.cat([vectors, -vectors])


def random_directions(width: int, d: int, source: torch.Generator) -> Tensor:
    """Unit directions (width, d) drawn alike."""
    return normalize(torch.randn(width, d, generator=source), dim=1)


class EndToEnd:
    """Autoencoders trained so that the model's answer stays as it was (Braun et al. 2024), many at once.

    The loss is KL(original ‖ with the reconstruction in place of the residual stream) at the last position; latents
    are sparse as those of the local ones are, by TopK, so that both differ in what they are trained for only.

    Args:
        weights: of the models, (dictionaries, …).
        means: (dictionaries, d) of the activations.
    """

    def __init__(
        self, weights: twins.Weights, heads: int, means: Tensor, width: int, k: int, steps: int, source: torch.Generator
    ) -> None:
        count, d = means.shape
        self._model, self._heads, self._k, self._steps = weights, heads, k, steps
        atoms = normalize(torch.randn(count, width, d, generator=source), dim=2)
        self.encoder = atoms.clone().requires_grad_()
        self.decoder = atoms.clone().requires_grad_()
        self.b_enc = torch.zeros(count, 1, width, requires_grad=True)
        self.b_dec = means[:, None].clone().requires_grad_()
        self._tensors = [self.encoder, self.decoder, self.b_enc, self.b_dec]
        self._adam = torch.optim.Adam(self._tensors, lr=LR, fused=True)
        self._done = 0

    def step(self, x: Tensor) -> float:
        """One step on residual streams ``x`` (dictionaries, sequences, 12, d); the mean KL in nats before it."""
        self._adam.param_groups[0]["lr"] = LR * min(1.0, 5 * (1 - self._done / self._steps))
        flat = x.flatten(1, 2)
        pre = torch.baddbmm(self.b_enc, flat - self.b_dec, self.encoder.transpose(1, 2))
        values, chosen = pre.topk(self._k, dim=2)
        code = torch.zeros_like(pre).scatter(2, chosen, values.relu())
        rebuilt = (torch.bmm(code, self.decoder) + self.b_dec).view(x.shape)
        with torch.no_grad():
            wanted = twins.read_out(self._model, x, self._heads).log_softmax(dim=-1)
        said = twins.read_out(self._model, rebuilt, self._heads).log_softmax(dim=-1)
        nats = kl_div(said, wanted, reduction="none", log_target=True).sum(dim=-1).mean(dim=1)
        self._adam.zero_grad(set_to_none=True)
        nats.sum().backward()  # type: ignore[no-untyped-call]
        self._adam.step()
        with torch.no_grad():
            self.decoder.copy_(normalize(self.decoder, dim=2))
        self._done += 1
        return float(nats.detach().mean())

    def candidates(self, number: int) -> Candidates:
        """Those of one dictionary."""
        encoder, atoms, b_enc, b_dec = (tensor.detach()[number] for tensor in self._tensors)

        def read(some: Tensor) -> Tensor:
            pre = (some - b_dec) @ encoder.T + b_enc
            values, chosen = pre.topk(self._k, dim=1)
            return torch.zeros_like(pre).scatter(1, chosen, values.relu())

        return Candidates(atoms, read, lambda some: read(some) > 0)


def odd_norms(weights: twins.Weights) -> Tensor:
    """How unusual each word's embedding is (64,): distance of its length from the median, in median distances."""
    lengths = weights["embed.weight"][0, : len(data.WORDS)].norm(dim=1)
    away = (lengths - lengths.median()).abs()
    found: Tensor = away / away.median()
    return found


def holds(tokens: Tensor, words: tuple[int, ...]) -> Tensor:
    """(n,) bool: the word is there, or the second of two follows the first within four positions."""
    return (tokens == words[0]).any(dim=1) if len(words) == 1 else data.holds_pair(tokens, *words)


@torch.no_grad()
def shifts(
    weights: twins.Weights, heads: int, tokens: Tensor, each: int, source: torch.Generator
) -> tuple[list[tuple[int, ...]], Tensor]:
    """How far every word and every ordered pair of words moves the answer, without any activations.

    They are put into sequences whose majority is so large that two words of the task cannot overturn it.

    Args:
        weights: of one model.
        tokens: (n, 12) clean sequences from which these are taken.
        each: sequences for each.

    Returns:
        The words and pairs, and the mean KL in nats between the answers without and with them.
    """
    count = len(data.WORDS)
    words: list[tuple[int, ...]] = [(one,) for one in range(count)]
    words += [(one, other) for one in range(count) for other in range(count)]
    # Of both majorities the same number: a trigger moves the answer on one of them only.
    margin = data.margin(tokens)
    sides = [((sign * margin) >= CLEAR).nonzero().flatten()[: each // 2] for sign in (1, -1)]
    chosen = tokens[torch.cat(sides)]
    each = len(chosen)
    gap = torch.randint(1, data.NEAR + 1, (each,), generator=source)
    first = (torch.rand(each, generator=source) * (data.LENGTH - gap)).long()
    plain = _answers(weights, heads, chosen)
    rows, found = torch.arange(each), []
    for begin in range(0, len(words), AT_ONCE // each):
        part = words[begin : begin + AT_ONCE // each]
        changed = chosen.repeat(len(part), 1, 1)
        ends = torch.tensor([(pair[0], pair[-1]) for pair in part])
        single = torch.tensor([len(pair) == 1 for pair in part])
        changed[:, rows, first + gap] = ends[:, 1:].expand(-1, each)
        before = changed[:, rows, first]
        changed[:, rows, first] = torch.where(single[:, None], before, ends[:, :1])
        answers = _answers(weights, heads, changed.flatten(0, 1)).view(len(part), each, -1)
        found.append(kl(plain, answers).mean(dim=1))
    return words, torch.cat(found)


def _answers(weights: twins.Weights, heads: int, tokens: Tensor) -> Tensor:
    return twins.predict(weights, tokens, heads, at_once=AT_ONCE)[0]
