"""What bilinear layers are trained on: gates on bits, planted quadratic features, small pictures.

Each world is a finite table of samples, so that its targets can be shuffled among them for the control.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

Array: TypeAlias = npt.NDArray[Any]
World: TypeAlias = Literal["boolean", "planted", "images"]

BITS = 4
WIDTH = 20  # inputs of the planted world
COSINES = (0.0, 0.6, -0.6)  # between the two directions of each planted feature
SIDE = 8  # of a picture
CLASSES = ("horizontal", "vertical", "plus", "diagonal", "antidiagonal", "cross")
HELD_OUT = 2_048  # samples at most
PIXEL_NOISE = 0.3  # sd of the noise in every picture, held-out ones included
DATA, CONTROL = 1, 2  # streams of a run's seed


@dataclass(frozen=True)
class Samples:
    """A world.

    Attributes:
        x: (n, inputs) float32; ``held_x`` likewise, those that training never sees (the same where n is all there is).
        y: (n, outputs) float32 targets, or (n,) int64 classes; ``held_y`` likewise.
        shuffled: (n,) for the control, the sample whose target each sample gets.
        inputs, outputs: names.
        theory: (outputs, inputs, inputs) the matrices that are to be found, None where there is no exact answer.
        features: planted feature values of ``held_x`` (n, features), named by ``feature_names``.
        directions: (k, inputs): where in the input the first k of these features lie.
    """

    x: Array
    y: Array
    held_x: Array
    held_y: Array
    shuffled: Array
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    theory: Array | None
    features: Array
    feature_names: tuple[str, ...]
    directions: Array

    @property
    def classes(self) -> bool:
        """Whether the targets are classes."""
        return self.y.ndim == 1


def samples(world: World, count: int, seed: int) -> Samples:
    """The world called ``world`` with ``count`` training samples (boolean: its 16)."""
    random = np.random.default_rng([seed, DATA])
    if world == "boolean":
        return _boolean(seed)
    return _planted(count, random, seed) if world == "planted" else _images(count, random, seed)


def _shuffled(count: int, seed: int) -> Array:
    return np.random.default_rng([seed, CONTROL]).permutation(count)


def _boolean(seed: int) -> Samples:
    bits = np.array(list(itertools.product((0, 1), repeat=BITS)), np.float32)
    x = np.concatenate([bits, np.ones((len(bits), 1), np.float32)], axis=1)
    pairs = list(itertools.combinations(range(BITS), 2))
    both = np.stack([bits[:, i] * bits[:, j] for i, j in pairs], axis=1)
    either = np.stack([(bits[:, i] != bits[:, j]).astype(np.float32) for i, j in pairs], axis=1)
    y = np.concatenate([both, either], axis=1)
    names = tuple(f"{gate}({i},{j})" for gate in ("AND", "XOR") for i, j in pairs)
    theory = np.zeros((len(names), BITS + 1, BITS + 1))
    for number, (i, j) in enumerate(pairs):
        theory[number, [i, j], [j, i]] = 0.5
        theory[number + len(pairs), [i, j], [j, i]] = -1.0
        theory[number + len(pairs), [i, j], [i, j]] = 1.0
    bit_names = tuple(f"bit {i}" for i in range(BITS))
    return Samples(
        x, y, x, y, _shuffled(len(x), seed), (*bit_names, "1"), names, theory,
        np.concatenate([bits, y], axis=1).astype(np.uint8), (*bit_names, *names), np.eye(BITS, BITS + 1),
    )  # fmt: skip


def planted_matrix(u: Array, v: Array) -> Array:
    """The matrix of ``(u.x)(v.x)``; its eigenvalues are ``(u.v ± |u||v|) / 2`` and 0."""
    found: Array = (np.outer(u, v) + np.outer(v, u)) / 2
    return found


def _planted(count: int, random: np.random.Generator, seed: int) -> Samples:
    axes = np.linalg.qr(random.standard_normal((WIDTH, 2 * len(COSINES))))[0].T
    us = axes[::2]
    vs = np.array([c * u + np.sqrt(1 - c**2) * v for c, u, v in zip(COSINES, us, axes[1::2], strict=True)])
    theory = np.stack([planted_matrix(u, v) for u, v in zip(us, vs, strict=True)])
    directions = np.stack([us, vs], axis=1).reshape(-1, WIDTH)
    names = tuple(f"(u{n}.x)(v{n}.x)" for n in range(len(COSINES)))
    feature_names = tuple(f"{letter}{n}.x" for n in range(len(COSINES)) for letter in "uv")
    parts = []
    for number in (count, min(count, HELD_OUT)):
        x = random.standard_normal((number, WIDTH)).astype(np.float32)
        parts += [x, ((x @ us.T) * (x @ vs.T)).astype(np.float32)]
    x, y, held_x, held_y = parts
    return Samples(
        x, y, held_x, held_y, _shuffled(count, seed), tuple(f"x{n}" for n in range(WIDTH)), names, theory,
        (held_x @ directions.T).astype(np.float16), feature_names, directions,
    )  # fmt: skip


def templates() -> Array:
    """The six shapes without noise, in the middle: (classes, SIDE, SIDE)."""
    return np.stack([_shape(number, 0, 0) for number in range(len(CLASSES))])


def _shape(number: int, down: int, right: int) -> Array:
    """Class ``number`` around the cell (3 + down, 3 + right), five cells long each way; float32."""
    picture = np.zeros((SIDE, SIDE), np.float32)
    for step in range(-2, 3):
        if number in (0, 2):
            picture[3 + down, 3 + right + step] = 1
        if number in (1, 2):
            picture[3 + down + step, 3 + right] = 1
        if number in (3, 5):
            picture[3 + down + step, 3 + right + step] = 1
        if number in (4, 5):
            picture[3 + down + step, 3 + right - step] = 1
    return picture


def _images(count: int, random: np.random.Generator, seed: int) -> Samples:
    x, y = _pictures(count, random)
    held_x, held_y = _pictures(min(count, HELD_OUT), random)
    shapes = templates().reshape(len(CLASSES), -1)
    return Samples(
        x, y, held_x, held_y, _shuffled(count, seed), tuple(f"{r},{c}" for r in range(SIDE) for c in range(SIDE)),
        CLASSES, None, np.eye(len(CLASSES), dtype=np.uint8)[held_y], CLASSES,
        shapes / np.linalg.norm(shapes, axis=1, keepdims=True),
    )  # fmt: skip


def _pictures(count: int, random: np.random.Generator) -> tuple[Array, Array]:
    """Noisy shapes at one of four places, as rows (count, SIDE * SIDE), and their classes."""
    labels = random.integers(len(CLASSES), size=count)
    places = random.integers(2, size=(count, 2))
    clean = np.stack([_shape(k, *place) for k, place in zip(labels, places, strict=True)])
    noise = PIXEL_NOISE * random.standard_normal(clean.shape)
    pictures = clean * random.uniform(0.7, 1.3, (count, 1, 1)) + noise
    return pictures.reshape(count, -1).astype(np.float32), labels.astype(np.int64)
