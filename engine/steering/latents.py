"""A latent of a dictionary as an intervention."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from engine.steering.errors import SteeringError
from engine.steering.interventions import Intervention, LatentAdd, LatentClamp, activation
from engine.steering.kept import Kept

if TYPE_CHECKING:
    from engine.dictionaries.form import Dictionary
    from engine.runs.run import Run
    from engine.steering.making import Material


_opened: Kept[Dictionary] = Kept(1)  # they are large


def of_latent(material: Material) -> tuple[Intervention, dict[str, Any]]:
    """The intervention of feature-add or feature-clamp, and facts of the latent.

    Strength 1 stands for the latent's largest activation on the bank. Where it is active on none of them it stands for a
    step as long as the bank's activations are, on average, away from their mean.

    Raises:
        SteeringError: no dictionary was named, or the latent cannot be steered at the hook.
        DictionaryError: the dictionary cannot be opened.
    """
    choice, model = material.choice, material.model
    key = (choice.dictionary, str(material.run.work), str(model.device))
    dictionary = _opened.get(key, lambda: opened(choice.dictionary, material.run).to(model.device))
    clamped = choice.method == "feature-clamp"
    check_latent(dictionary, choice.latent, choice.hook, clamped=clamped)
    width = model.check_hook(choice.hook)
    if width != dictionary.config.d_out:
        raise SteeringError(
            f"The dictionary writes {dictionary.config.d_out:,} dimensions, but {choice.hook} of {model.facts.title} has "
            f"{width:,}; choose a dictionary that was trained on this model."
        )
    bank = material.bank
    facts: dict[str, Any] = {
        "dictionary": choice.dictionary,
        "latent": choice.latent,
        "atom_norm": float(dictionary.W_dec[choice.latent].norm()),
    }
    largest = 0.0
    if dictionary.config.hook_in == dictionary.config.hook_out:
        held = activation(dictionary, choice.latent, material.tensor(bank))
        largest = float(held.max())
        facts |= {"largest": largest, "active": float((held > 0).float().mean())}
    if largest <= 0:
        spread = float(np.linalg.norm(bank - bank.mean(0), axis=1).mean())
        largest = spread / max(facts["atom_norm"], 1e-12)
        facts["unit_from"] = "spread of the bank, since the latent was not active on the prompts"
    facts["unit"] = largest
    if clamped:
        return LatentClamp(dictionary, choice.latent, largest), facts
    return LatentAdd(dictionary, choice.latent, largest), facts


def opened(reference: str, run: Run) -> Dictionary:
    """The dictionary of this session called ``reference``, or the demo's.

    Raises:
        SteeringError: no dictionary is named.
        DictionaryError: it cannot be opened.
    """
    from engine.dictionaries.errors import DictionaryError
    from engine.dictionaries.form import read
    from engine.dictionaries.formats import open_dictionary
    from engine.dictionaries.references import DEMO
    from engine.session import NotInSession, find_thing

    if not reference:
        raise SteeringError("No dictionary is named whose latent is to be steered; choose one, or demo.")
    if reference == DEMO:
        [held] = open_dictionary(DEMO)
        return held.dictionary
    if run.work is None:
        raise DictionaryError(f"There is no session to take {reference} from; run this in a session.")
    try:
        return read(*find_thing(run.work, "dictionaries", reference))
    except NotInSession:
        raise DictionaryError(
            f"dictionary={reference} is not in this session; give the id of a dictionary or of the run that trained it, or "
            "demo."
        ) from None


def check_latent(dictionary: Dictionary, latent: int, hook: str, *, clamped: bool) -> None:
    """Refuse a latent that cannot be steered at ``hook``.

    Raises:
        SteeringError: it is not in the dictionary, the dictionary reconstructs another hook point, or (to clamp it)
            the latent's activation is not known from the activation that is changed.
    """
    config = dictionary.config
    if latent >= config.width:
        raise SteeringError(
            f"The dictionary has latents 0 to {config.width - 1:,}, but not {latent:,}; choose one of them."
        )
    if config.hook_out != hook:
        raise SteeringError(
            f"The dictionary writes {config.hook_out}, but {hook} is to be steered; choose that hook point."
        )
    if clamped and config.hook_in != config.hook_out:
        raise SteeringError(
            f"The dictionary reads {config.hook_in} and writes {config.hook_out}, so its latents cannot be clamped there; "
            "add to the latent instead."
        )
    if clamped and config.activation == "batchtopk" and not dictionary.calibrated:
        raise SteeringError(
            "This batchtopk dictionary has no threshold, so its latents depend on the whole batch and cannot be clamped; "
            "add to the latent instead."
        )
