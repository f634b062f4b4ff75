"""The look ``dictionary-estimate``: what a training run would take, before it is started."""

from __future__ import annotations

from engine.dictionaries.training_parameters import TrainDictionary
from engine.runs import Run, experiment


@experiment("dictionary-estimate", title="Estimate a training run", area="Dictionaries", lane="look")
def dictionary_estimate(p: TrainDictionary, run: Run) -> None:
    """Says how much memory and time training a dictionary with these parameters would take.

    **Memory** follows from the shapes: weights, their gradients and Adam's two moments, the arrays of a batch, the
    buffer of activations, what is captured ahead, a checkpoint's copy, and the model where it is not open yet. It
    is compared with what is free.

    **Time** is measured: some steps of the real trainer on random activations, and a few contexts read by the model
    where that is open already or small. Where a step is large, smaller ones are timed and scaled up. The text is
    not read: it is taken to be as long as asked for. Time is a rough guide, wrong by a factor of two and more where
    other programs compute or latents become sparser while they are trained; memory is counted from the shapes.
    """
    from engine.dictionaries.estimate import estimate

    found = estimate(p, run)
    run.show("estimate", found.figure())
    for name, value in found.values().items():
        run.fact(name, value)
