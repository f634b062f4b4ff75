"""The experiment ``planted-features``: a dictionary against the features that are known to be in its model."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

import numpy as np
import numpy.typing as npt
from pydantic import Field

from engine.figures.kinds import Axis, Scatter, Table
from engine.runs.declaration import Metric, experiment
from engine.runs.parameters import Parameters, Seed, Threads

if TYPE_CHECKING:
    from engine.dictionaries.form import Dictionary
    from engine.dictionaries.planted import Detection, Match
    from engine.models.opening import OpenModel
    from engine.runs.run import Run
    from engine.text.toys import ToyData

Array: TypeAlias = npt.NDArray[Any]
STREAM = 7  # of stories: none that the demo model was trained or tested on
SHORTEST = 40  # tokens of a story with its end
LATENTS = 2_048  # latents that are judged one by one; of more, those active most often
BATCH = 64  # sequences in one forward pass


class PlantedFeatures(Parameters):
    """Which dictionary, on how much of its toy's data."""

    dictionary: Annotated[
        str,
        Field(
            min_length=1,
            description="Dictionary of this session that was trained on a toy: its id, or that of the run that trained it; "
            "demo is the one that ships",
            json_schema_extra={"widget": "session-dictionary"},
        ),
    ] = "demo"
    tokens: int = Field(
        4_000,
        ge=200,
        le=100_000,
        description="Positions of the toy's data to look at",
        json_schema_extra={"unit": "tokens"},
    )
    seed: Seed = 0
    threads: Threads = 0


@experiment(
    "planted-features",
    title="Planted features",
    area="Dictionaries",
    cites="Sharkey, Braun & Millidge 2022 (mean max cosine similarity); Karvonen et al. 2024, Measuring Progress in "
    "Dictionary Learning (board games: known features); Gao et al. 2024 (probes by single latents)",
    metrics={
        "planted": Metric(
            "Planted features found",
            "cosine",
            "Mean over the planted features of the largest cosine with an atom (MMCS)",
        ),
        "planted_control": Metric(
            "Random dictionaries", "cosine", "The same for dictionaries of as many random atoms, mean over 20 of them"
        ),
        "auroc": Metric(
            "Features told by one latent",
            "AUROC",
            "Mean over features of the area under the ROC curve of the latent that tells best when the feature is active, "
            "chosen on one half of the sequences and judged on the other",
        ),
        "auroc_control": Metric(
            "Shuffled features", "AUROC", "The same with the features' values shuffled over positions"
        ),
    },
)
def planted_features(p: PlantedFeatures, run: Run) -> None:
    """Scores a dictionary against features that are known to be there, because they were planted.

    A toy's data comes with the value of every planted feature at every position, and where features are
    directions, the toy says which. A dictionary that was trained on the toy is scored by both.

    **How to read it.** *Planted directions* lists each feature with the atom that comes nearest: a cosine of 1 is
    the feature itself. *When features are active* lists the single latent that tells best whether the feature is
    active, by the area under its ROC curve (1 tells always, .5 never); it is chosen on one half of the sequences and
    judged on the other, so that a wide dictionary gains nothing by having more latents to choose from. A feature may be
    found by direction and yet not be told by one latent, where the dictionary splits or absorbs it, and the other
    way round, where a latent stands for something that goes together with it.

    **Controls.** As many random atoms in as many dimensions have a largest cosine of their own, which is far from 0
    in few dimensions; features with shuffled values give the area that choosing the best of many latents gives.
    """
    from engine.dictionaries.planted import detect, score
    from engine.toys.errors import ToyError

    dictionary, name = _dictionary(p.dictionary, run)
    model, data = _model_and_data(dictionary, p, run)
    found: Match | None = None
    known = model.planted.get(dictionary.config.hook_out)
    if known is not None:
        found, table = score(dictionary, *known, p.seed)
        run.show("planted directions", table)
        run.log(0, planted=found.mean, planted_control=float(found.control.mean()))
    told: Detection | None = None
    names: tuple[str, ...] = ()
    if data is not None and data.features is not None:
        run.stage("Encoding the toy's data")
        latents, which, features, groups = _encoded(dictionary, model, data, p.tokens, run)
        names = tuple(f"{word}" for word in data.names)
        told = detect(latents, features, groups, p.seed)
        if np.isfinite(told.auroc).any():
            run.show("activity", _activity(told, which, names, len(latents), name))
            run.log(0, auroc=float(np.nanmean(told.auroc)), auroc_control=float(np.nanmean(told.control)))
        else:
            always = (
                f"Each feature of this toy is on at all of the {len(latents):,} positions looked at, or at none, so no latent "
                "can tell when"
            )
            if found is None:
                raise ToyError(f"{always}; choose another toy's dictionary, or look at belief-simplices for beliefs.")
            run.say(f"{always}: directions alone are scored.", "warning")
            told = None
    if found is None and told is None:
        raise ToyError(
            f"Nothing is known to be planted in {dictionary.config.model or 'the model'} at "
            f"{dictionary.config.hook_out}; choose a dictionary that was trained on a toy."
        )
    if found is not None and told is not None and known is not None and known[0] == names:
        run.show("both", _both(found, told, names))


def _dictionary(reference: str, run: Run) -> tuple[Dictionary, str]:
    from engine.dictionaries.errors import DictionaryError
    from engine.dictionaries.form import read
    from engine.dictionaries.formats import open_dictionary
    from engine.dictionaries.references import DEMO
    from engine.session.finding import find_thing

    if reference == DEMO:
        [held] = open_dictionary(DEMO)
        return held.dictionary, "the demo's dictionary"
    if run.work is None:
        raise DictionaryError(f"There is no session to take {reference} from; run this in a session.")
    return read(*find_thing(run.work, "dictionaries", reference)), reference


def _model_and_data(dictionary: Dictionary, p: PlantedFeatures, run: Run) -> tuple[OpenModel, ToyData | None]:
    """The model that the dictionary was trained on, and the data in which features are known; None where none are.

    Raises:
        ModelError: the model cannot be opened, or the dictionary does not fit it.
        TextError: the toy's data is gone.
    """
    from engine.models.errors import ModelError
    from engine.models.opening import open_model
    from engine.models.references import parse
    from engine.text import toys

    config = dictionary.config
    if not config.model:
        raise ModelError("This dictionary does not say which model it was trained on, so nothing is known of it.")
    parsed = parse(config.model)
    model = open_model(config.model, run=run, work=run.work)
    width = model.check_hook(config.hook_in)
    if width != config.d_in:
        raise ModelError(
            f"The dictionary reads {config.d_in:,} dimensions, but {config.hook_in} of {config.model} has {width:,}."
        )
    if parsed.kind == "demo":
        return model, story_data(p.tokens, model.facts.context, p.seed)
    return model, toys.find(parsed.value, run.work)[1] if parsed.kind == "toy" else None


def story_data(tokens: int, context: int, seed: int) -> ToyData:
    """Stories for the demo model, packed as in training, with the grammar's latent variables as features.

    A feature is active from the word on that shows it to a reader; those of ``slot`` at their own word only.
    """
    from engine.text import stories
    from engine.text.toys import ToyData
    from engine.toys.stories.training import FEATURES, story_features

    found = list(itertools.islice(stories.generate(seed, stream=STREAM), tokens // SHORTEST + 1))
    ids, counted, features = story_features(found, context)
    return ToyData(ids, counted, features, FEATURES, next_token=True)


def _encoded(
    dictionary: Dictionary, model: OpenModel, data: ToyData, tokens: int, run: Run
) -> tuple[Array, Array, Array, Array]:
    """Values (n, judged latents) of the latents active most often, which they are, features (n, features), sequences."""
    import torch

    from engine.models.capture import capture

    config = dictionary.config
    counted = data.counted if data.counted is not None else np.ones(data.tokens.shape, dtype=bool)
    rows = min(int(np.searchsorted(np.cumsum(counted.sum(axis=1)), tokens)) + 1, len(data.tokens))
    parts = []
    for part, values in capture(model, data.tokens[:rows], [config.hook_in], batch=BATCH, run=run):
        parts.append(values[config.hook_in][torch.from_numpy(counted[part].copy())])
    codes = dictionary.to(model.device).encode(torch.cat(parts))
    often = torch.bincount(codes.indices, minlength=config.width)
    chosen = (
        torch.sort(often, descending=True, stable=True).indices[: min(LATENTS, int((often > 0).sum()))].sort().values
    )
    place = torch.full((config.width,), -1, dtype=torch.int64, device=chosen.device)
    place[chosen] = torch.arange(len(chosen), device=chosen.device)
    judged = place[codes.indices] >= 0
    dense = torch.zeros(len(codes), max(len(chosen), 1), device=chosen.device)
    dense[codes.rows[judged], place[codes.indices[judged]]] = codes.values[judged]
    assert data.features is not None
    features: Array = np.asarray(data.features[:rows])[counted[:rows]]
    groups = np.nonzero(counted[:rows])[0]
    return dense.cpu().numpy()[:tokens], chosen.cpu().numpy(), features[:tokens], groups[:tokens]


def _activity(told: Detection, which: Array, names: tuple[str, ...], n: int, of: str) -> Table:
    order = np.argsort(np.nan_to_num(told.auroc, nan=2.0), kind="stable")
    latents = np.where(told.latent >= 0, which[np.maximum(told.latent, 0)], -1)
    seen = np.isfinite(told.auroc)
    spread = f"sd {np.nanstd(told.auroc):.3f}, {int(seen.sum())} features" if seen.any() else "no feature varies"
    return Table(
        title="When features are active",
        note=f"Latents of {of} on {n:,} positions; each latent was chosen on one half of the sequences and judged on "
        f"the other. Mean area {np.nanmean(told.auroc) if seen.any() else np.nan:.3f} ({spread}). Control: the same "
        "with shuffled features.",
        axes=(
            Axis("Feature"),
            Axis("Active", "share"),
            Axis("Latent"),
            Axis("AUROC"),
            Axis("Shuffled control", "AUROC"),
        ),
        columns=(np.array(names)[order], told.active[order], latents[order], told.auroc[order], told.control[order]),
    )


def _both(found: Match, told: Detection, names: tuple[str, ...]) -> Scatter:
    seen = np.isfinite(told.auroc)
    return Scatter(
        title="By direction and by activity",
        note=f"{int(seen.sum())} planted features. Controls: random atoms reach a cosine of {found.control.mean():.2f} "
        f"(sd {found.control.std():.2f}), shuffled features an area of {np.nanmean(told.control):.2f}.",
        x_axis=Axis("Largest cosine with an atom"),
        y_axis=Axis("Area under the ROC curve of the best latent"),
        points=np.stack([found.cosine, told.auroc], axis=1)[seen],
        label=np.array(names)[seen],
    )
