"""The experiment ``train-dictionary``: a sparse dictionary of a model's activations, live and resumable."""

from __future__ import annotations

from engine.dictionaries.training_parameters import TrainDictionary
from engine.runs import Action, ActionValue, Metric, Run, experiment

__all__ = ["TrainDictionary", "train_dictionary"]

METRICS = {
    "loss": Metric(
        "Loss",
        "",
        "Sum of its terms: mean ‖y − y′‖² of the batch divided by the mean ‖y − mean‖² of the "
        "activations captured before the first step, plus the sparsity penalty and the auxiliary loss of dead latents, "
        "each times its weight",
        "log",
    ),
    "fvu": Metric(
        "FVU",
        "",
        "Fraction of variance unexplained: Σ‖y − y′‖² over the activations since the last point, divided by their number "
        "times the mean ‖y − mean‖² of the activations captured before the first step",
        "log",
    ),
    "l0": Metric("L0", "latents", "Active latents per activation, mean since the last point"),
    "dead": Metric(
        "Dead latents", "share", "Latents that were active on none of the last dead_after activations, of all latents"
    ),
    "reconstruction": Metric(
        "Reconstruction", "", "Term of the loss: mean ‖y − y′‖² / mean ‖y − mean‖² (matryoshka: mean over its prefixes)",
        "log", group="terms",
    ),
    "penalty": Metric(
        "Sparsity penalty", "", "Term of the loss: the penalty of latents times its weight at this step",
        "log", group="terms",
    ),
    "auxiliary": Metric(
        "Auxiliary", "", "Term of the loss: what dead latents miss of the others' error, as a share of it, times aux",
        "log", group="terms",
    ),
    "threshold": Metric(
        "Threshold", "", "Pre-activation above which a latent is active, in units of the scaled activations: the running "
        "estimate (batchtopk, matryoshka) or the mean over latents (jumprelu)",
    ),
    "lr": Metric("Learning rate", "", "Of Adam: rises during the warm-up, falls during the decay"),
    "rate": Metric("Rate", "activations/s", "Activations trained on per second since the last point, capture included"),
    "passes": Metric("Passes over the text", "passes", "Activations trained on, divided by those in the text"),
    "ce_recovered_live": Metric(
        "CE recovered, live",
        "share",
        "(CE zero − CE spliced) / (CE zero − CE clean) on a few held-out contexts while training (measure_every)",
    ),
    "kl_live": Metric(
        "KL, live", "nats/token", "KL(clean ‖ spliced) on a few held-out contexts while training (measure_every)"
    ),
    "ce_recovered": Metric(
        "CE recovered",
        "share",
        "(CE zero − CE spliced) / (CE zero − CE clean) on held-out contexts: cross entropy that the dictionary saves, "
        "against zero ablation; BOS keeps its own activation",
        group="recovered",
    ),
    "ce_recovered_mean": Metric(
        "CE recovered, mean ablation",
        "share",
        "The same against replacing each activation by the mean activation of the training text",
        group="recovered",
    ),
    "kl": Metric("KL", "nats/token", "KL(clean ‖ spliced) of the model's predictions, mean over held-out predictions"),
    "planted": Metric(
        "Planted features found",
        "cosine",
        "Mean over the features planted in a toy at this hook point of the largest cosine with an atom (MMCS)",
    ),
    "fvu_held_out": Metric("FVU held out", "", "Σ‖y − y′‖² / Σ‖y − mean‖² over the held-out activations"),
    "l0_held_out": Metric("L0 held out", "latents", "Active latents per activation, mean over those held out"),
}  # fmt: skip

ACTIONS = {
    "resample": Action(
        "Resample dead latents",
        "Draw every dead latent anew from activations that the dictionary rebuilds badly (Bricken et al. 2023)",
    ),
    "lr": Action(
        "Change learning rate…",
        "From the next step on; the schedule goes on around the new height",
        value=ActionValue("Learning rate", minimum=1e-9, maximum=10.0, metric="lr"),
    ),
}


@experiment(
    "train-dictionary",
    title="Train a dictionary",
    area="Dictionaries",
    metrics=METRICS,
    actions=ACTIONS,
    estimate="dictionary-estimate",
    cites="Bricken et al. 2023, Towards Monosemanticity; Gao et al. 2024 (arXiv 2406.04093); Bussmann et al. 2024 "
    "(arXiv 2412.06410) and 2025 (arXiv 2503.17547); Rajamanoharan et al. 2024 (arXiv 2404.16014, 2407.14435); "
    "Dunefsky et al. 2024 (arXiv 2406.11944); Paulo et al. 2025 (arXiv 2501.18823)",
    resumable=True,
)
def train_dictionary(p: TrainDictionary, run: Run) -> None:
    """Trains a sparse dictionary: latents, few of which at a time rebuild an activation.

    x′ = act((x − b_dec) W_enc + b_enc) W_dec + b_dec; rows of W_dec are the atoms. What `act` is, is the
    **architecture**:

    - **topk** keeps the `k` largest latents of each activation.
    - **batchtopk** keeps the `k` · `batch` largest of each batch, so that hard activations may use more; for use
      afterwards a threshold takes over.
    - **matryoshka** is BatchTopK in nested prefixes of the dictionary, each of which rebuilds on its own, so
      that the first latents stay general.
    - **jumprelu** gives each latent a threshold of its own and aims at `k` active ones on average.
    - **relu** puts a price on active latents. Each *penalty* is minus the logarithm of a prior; the experiment
      `activation-priors` shows which prior real latents follow.
    - **gated** lets one path decide which latents are active and another how large they are.
    - **transcoder** reads an MLP's input (`hook_in`) and rebuilds its output (`hook_out`), without centring;
      **skip-transcoder** adds a linear bypass. `sparsity` says what makes their latents sparse.

    **What to watch.** *FVU* is the share of variance that the dictionary misses: 1 is as bad as the mean
    activation, 0 is perfect. *Dead latents* should stay few: an auxiliary loss (`aux`) revives them in the TopK
    family; in the others `resample_every`, or the button *Resample dead latents*, draws them anew. *Activation
    density over training* shows how often latents are active as the run goes on; *length of atoms* shows
    whether some grow.

    **At the end** the dictionary takes the activations' place in the model on contexts that were held out.
    *CE recovered* compares the cross entropy to that of the clean model (1) and to that with the activations
    zeroed (0), as the public benchmarks do; *against mean ablation* is the harder yardstick. With
    `measure_every` both are measured on the way as well.

    On a **toy** (`toy:RUN` as model and text) the features are known: *planted features found* follows the mean
    largest cosine between planted directions and atoms, and a table lists feature by feature what was found, with
    random dictionaries of the same size as control. A toy that predicts no tokens has no cross entropy.

    **Data.** Activations are captured ahead of the training through a shuffle buffer. Where `steps` × `batch`
    exceeds the text, it is passed over again; *passes* counts that. `activations` takes a stored matrix (N, D)
    instead. The runs of a sweep share one pass over the model. Activations are multiplied by one factor
    (`scaling`) for training, which is folded into the saved dictionary: it reads raw activations. Special
    tokens (BOS) are left out by default, because their activations are often outliers of a hundred times the
    usual size.

    The run can be paused, stopped and resumed: it goes on from its last checkpoint exactly, bit for bit on a CPU
    with the same number of threads. What a person changes on the way is recorded with its step and replayed. Stop
    keeps the dictionary as it is.
    """
    from engine.dictionaries.training import train

    train(p, run)
