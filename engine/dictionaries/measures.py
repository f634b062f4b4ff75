"""What each number about a dictionary means: names, units, definitions, where they come from. Free of torch."""

from __future__ import annotations

from dataclasses import dataclass

SAME = "sums in float64 over all activations, whatever the batches"


@dataclass(frozen=True)
class Measure:
    """One way to put a number on a dictionary.

    Attributes:
        label: as a title or an axis.
        unit: of the number, empty for a ratio.
        definition: the formula in words; x is what is reconstructed, x′ the reconstruction, z the latents.
        source: who defined it so, or uses it.
        legacy: offered for comparison with published numbers only: it depends on how activations are cut into
            batches, or forgives what it should not.
    """

    label: str
    unit: str
    definition: str
    source: str
    legacy: bool = False


MEASURES: dict[str, Measure] = {
    "fvu": Measure(
        "FVU",
        "",
        "Fraction of variance unexplained: Σ‖x − x′‖² / Σ‖x − mean‖², the mean over all activations; 0 is perfect, 1 is "
        f"as bad as the mean; {SAME}",
        "Gao et al. 2024 (normalised MSE)",
    ),
    "explained_variance": Measure(
        "Explained variance",
        "",
        f"1 − Σ‖x − x′‖² / Σ‖x − mean‖², the mean over all activations; a constant offset counts as error; {SAME}",
        "SAELens since its fix of issue 659",
    ),
    "mse": Measure(
        "MSE",
        "squared units",
        f"Mean over activations of ‖x − x′‖², summed over dimensions, in squared units of the activations; {SAME}",
        "SAELens since its pull request 711; Bricken et al. 2023",
    ),
    "l0": Measure(
        "L0", "latents", "Mean over activations of the number of active latents (z > 0)", "Cunningham et al. 2023"
    ),
    "l1": Measure(
        "L1", "units", "Mean over activations of Σ|z|, in units of the latents", "Bricken et al. 2023, SAEBench"
    ),
    "density": Measure(
        "Density", "share", "L0 / width: share of activations on which a latent is active, mean over latents", "SAELens"
    ),
    "never_active": Measure(
        "Never active",
        "share",
        "Latents active on none of the activations measured, of all latents; a rare latent is never active on few "
        "activations and yet not dead",
        "dictionary_learning (1 − frac_alive)",
    ),
    "dead": Measure(
        "Dead latents",
        "share",
        "Latents active on none of the last dead_after activations, of all latents",
        "Gao et al. 2024 (dead_after = 10 million)",
    ),
    "cosine": Measure(
        "Cosine", "", "Mean over activations of cos(x, x′), 0 where either is zero", "SAELens, dictionary_learning"
    ),
    "l2_ratio": Measure(
        "L2 ratio",
        "",
        "Mean over activations of ‖x′‖ / ‖x‖, those with x = 0 left out; below 1 reconstructions are too short",
        "SAELens, dictionary_learning",
    ),
    "reconstruction_bias": Measure(
        "Relative reconstruction bias",
        "",
        f"E‖x′‖² / E[x · x′]: 1 is unbiased, below 1 a rescaled x′ would fit better; {SAME}",
        "Rajamanoharan et al. 2024 (Gated, eq. 10)",
    ),
    "shrinkage": Measure(
        "Shrinkage slope",
        "",
        f"E[x′ · x] / E[x · x]: slope of the reconstruction on what it reconstructs; L1 makes it smaller than 1; {SAME}",
        "Wright & Sharkey 2024",
    ),
    "explained_variance_legacy": Measure(
        "Explained variance, legacy",
        "",
        "Mean over activations of 1 − ‖x − x′‖² / ‖x − mean of the batch‖²: activations near the mean weigh as much as "
        "distant ones, and it depends on the batch",
        "SAELens at first; numbers of the SAEBench paper",
        legacy=True,
    ),
    "explained_variance_saebench": Measure(
        "Explained variance, SAEBench",
        "",
        "1 − E‖x − x′‖² / (E‖x‖² − m²), where m is the mean of x² over batches and dimensions, one number: nearly the "
        "variance about zero, so a large mean makes it look better",
        "SAEBench and SAELens before its fix of issue 659",
        legacy=True,
    ),
    "explained_variance_centred": Measure(
        "Explained variance, error centred",
        "",
        "1 − Σ Var(x − x′) / Σ Var(x), sums over dimensions, variances within a batch, mean over batches: a constant "
        "offset of the reconstruction is forgiven",
        "dictionary_learning (frac_variance_explained)",
        legacy=True,
    ),
    "fvu_sparsify": Measure(
        "FVU, by batch",
        "",
        "Σ‖x − x′‖² / Σ‖x − mean of the batch‖² in each batch, mean over batches: small batches have less variance",
        "sparsify",
        legacy=True,
    ),
    "mse_saebench": Measure(
        "MSE, SAEBench",
        "squared units",
        "‖x − x′‖² divided by the activations in the batch, then the mean over activations: halves when batches double",
        "SAEBench, and SAELens before its pull request 711",
        legacy=True,
    ),
    "ce_recovered": Measure(
        "CE recovered",
        "share",
        "(CE zero − CE spliced) / (CE zero − CE clean): cross entropy that the dictionary saves, against zero ablation; "
        "positions that do not count (BOS) keep their own activation",
        "SAELens, SAEBench, dictionary_learning (frac_recovered)",
    ),
    "ce_recovered_mean": Measure(
        "CE recovered, mean ablation",
        "share",
        "(CE mean − CE spliced) / (CE mean − CE clean): the same against the mean activation, the harder yardstick",
        "Kissane et al. 2024",
    ),
    "kl": Measure(
        "KL",
        "nats/token",
        "KL(clean ‖ spliced) of the model's predictions, mean over predictions",
        "SAELens, SAEBench",
    ),
}


def legacy() -> dict[str, Measure]:
    """The variants kept for comparison with published numbers, by name."""
    return {name: measure for name, measure in MEASURES.items() if measure.legacy}
