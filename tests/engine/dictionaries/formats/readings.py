"""Independent readings of each format's forward pass, dense, from its definition; and files to read."""

from __future__ import annotations

import json

import torch
from safetensors.torch import save_file

from engine.dictionaries.formats import open_dictionary
from engine.errors import SuperscopeError

D, F = 6, 20


def draw(seed=0):
    """A maker of tensors of normal numbers."""
    generator = torch.Generator().manual_seed(seed)
    return lambda *shape: torch.randn(shape, generator=generator)


def inputs(width=D, count=64):
    return torch.randn(count, width, generator=torch.Generator().manual_seed(99)) * 1.5 + 0.4


def top(pre, k):
    """The k largest of each row, relu'd, the rest zero."""
    found = pre.topk(k, dim=1)
    return torch.zeros_like(pre).scatter(1, found.indices, found.values.relu())


def jump(pre, threshold):
    return pre.relu() * (pre > threshold)


def same(found, x, latents, output):
    """``found`` reads ``x`` as ``latents`` and writes ``output``."""
    one = found.dictionary
    torch.testing.assert_close(one.encode(x).dense(), latents, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(one(x), output, rtol=1e-5, atol=1e-5)
    assert (latents != 0).any()
    assert (latents == 0).any()


def put(folder, config, tensors, *, config_name="cfg.json", weights_name):
    """Write a folder of config and safetensors."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / config_name).write_text(json.dumps(config))
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, folder / weights_name)
    return folder


def each(references, run):
    """For a process of its own: what each reference opens as, or the sentence that refuses it."""
    answers = []
    for reference in references:
        try:
            found = open_dictionary(reference, run=run)
        except SuperscopeError as problem:
            answers.append(str(problem))
        else:
            answers.append([[one.name, one.format, one.dictionary.config.width] for one in found])
    return answers
