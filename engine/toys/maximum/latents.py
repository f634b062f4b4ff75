"""What the latents of dictionaries on a max-of-K transformer's logits stand for."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from engine.toys.small_dictionaries import Small

OWN = 0.9  # F1 from which a latent is called a number's own
FACTORS = ("query", "runner-up", "copies")


@dataclass(frozen=True)
class Meaning:
    """What a dictionary with one active latent has made of logits.

    Attributes:
        fvu: unexplained share of the variance.
        alive: latents that are active at all.
        own: share of the numbers for which a latent is active just where that number is the largest (F1 above `OWN`).
        purity: share of a latent's activations with its main largest number, mean over living latents.
        for_each: living latents whose main number it is, mean over the numbers that have any.
        splits: by each of `FACTORS`, the share of its entropy given the largest number that the active latent tells,
            less what it tells where the factor is shuffled among sequences with the same largest number.
    """

    fvu: float
    alive: int
    own: float
    purity: float
    for_each: float
    splits: tuple[float, float, float]


def factors(tokens: Tensor) -> dict[str, Tensor]:
    """Of sequences (n, k): the largest number, the query, the largest of the others, and copies of the largest."""
    largest = tokens.amax(dim=1)
    isolated = tokens.masked_fill(tokens == largest[:, None], -1)
    copies = (tokens == largest[:, None]).sum(dim=1)
    return {"largest": largest, "query": tokens[:, -1], "runner-up": isolated.amax(dim=1) + 1, "copies": copies}


def by_largest(codes: Tensor, largest: Tensor, numbers: int) -> Tensor:
    """Mean activity of each latent where each number is the largest: (width, numbers)."""
    one_hot = torch.nn.functional.one_hot(largest, numbers).float()
    return (codes.T @ one_hot) / one_hot.sum(dim=0).clamp_min(1)


def meaning(one: Small, tokens: Tensor, numbers: int, source: torch.Generator) -> Meaning:
    """Judge the dictionary ``one`` trained on the logits of ``tokens`` (n, k)."""
    codes = one.codes()
    found = factors(tokens)
    on = codes > 0
    hits = on.float().T @ torch.nn.functional.one_hot(found["largest"], numbers).float()  # (width, numbers)
    fired, times = hits.sum(dim=1), hits.sum(dim=0)
    of_numbers = torch.bincount(found["largest"], minlength=numbers).float()
    f1 = 2 * hits / (fired[:, None] + of_numbers).clamp_min(1)
    living = fired > 0
    main = hits[living].argmax(dim=1)
    latent = torch.where(on.any(dim=1), codes.argmax(dim=1), codes.shape[1])
    told = []
    for name in FACTORS:
        truth = _told(latent, found[name], found["largest"])
        shuffled = _told(latent, shuffle_within(found[name], found["largest"], source), found["largest"])
        told.append(truth - shuffled)
    return Meaning(
        fvu=one.fvu(codes),
        alive=int(living.sum()),
        own=float((f1.amax(dim=0) > OWN).float().mean()),
        purity=float((hits.amax(dim=1)[living] / fired[living]).mean()),
        for_each=float(living.sum() / max(len(torch.bincount(main).nonzero()), 1)) if bool((times > 0).any()) else 0.0,
        splits=(told[0], told[1], told[2]),
    )


def shuffle_within(values: Tensor, groups: Tensor, source: torch.Generator) -> Tensor:
    """``values`` (n,) exchanged at random among equal ``groups`` (n,)."""
    mixed = torch.randperm(len(values), generator=source)
    back = torch.empty_like(values)
    # Sorted by group in two orders: the ranks within a group are then matched at random.
    back[groups.argsort(stable=True)] = values[mixed[groups[mixed].argsort(stable=True)]]
    return back


def _told(latent: Tensor, factor: Tensor, given: Tensor) -> float:
    """I(latent; factor | given) / H(factor | given), counted; 0 where the factor is known beforehand."""
    uncertain = conditional_entropy(factor, given)
    if uncertain <= 0:
        return 0.0
    both = given * (int(latent.max()) + 1) + latent
    return 1 - conditional_entropy(factor, both) / uncertain


def conditional_entropy(values: Tensor, given: Tensor) -> float:
    """H(values | given) in bits, from counts."""
    joint = given * (int(values.max()) + 1) + values
    n = len(values)
    pairs, groups = (torch.unique(x, return_counts=True)[1].double() for x in (joint, given))
    entropies = [float(-(c / n * (c / n).log2()).sum()) for c in (pairs, groups)]
    return max(entropies[0] - entropies[1], 0.0)
