"""What `number-helix` finds layer by layer, and how it says so."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt

from engine.geometry import log_code, log_figures, number_figures, periods
from engine.geometry.errors import GeometryError
from engine.geometry.helix import Points, pca
from engine.geometry.helix_scores import ENOUGH_FOR_DIGITS, Scores, score
from engine.geometry.log_figures import LogRow
from engine.geometry.number_design import conditioning, design, resolved
from engine.geometry.number_figures import LayerScores, Where
from engine.geometry.number_words import angle_sentence, control_sentence, direction_sentence, helix_sentence

if TYPE_CHECKING:
    from engine.geometry.number_helix import NumberHelix
    from engine.runs.run import Run

Array: TypeAlias = npt.NDArray[Any]
FOLDS, SPECTRUM, DIRECTION, RANKING, ANGLES, CONTROL, PLANTED, RIVALS = range(2, 10)  # streams of the seed
CODE = 0.1  # share of the variance of the code that is planted
LEAST_SHARE = 1e-12  # of the squares of activations, below which they do not differ between numbers
MOST_FREQUENCIES = 600


@dataclass(frozen=True)
class Layer:
    """What was found at one hook point; ``logarithm`` are the points that its search was given."""

    layer: int
    name: str
    points: Points
    logarithm: Points
    scores: Scores
    spectrum: periods.Spectrum
    direction: log_code.Direction
    ranking: log_code.Ranking
    angles: log_code.Angles
    rivals: dict[str, log_code.Angles]

    @property
    def different(self) -> bool:
        """Whether every number has activations of its own: an embedding of the last digit has them for ten."""
        means = self.points.means
        return len(np.unique(np.round(means / np.abs(means).max(), 6), axis=0)) == len(means)


class Reporter:
    """Analyses points layer by layer with the same folds of the numbers, shows what is known, and the best layer in full."""

    def __init__(self, p: NumberHelix, run: Run, numbers: str, layers: int, of_logarithm: str) -> None:
        self.p, self.run, self.numbers, self.layers = p, run, numbers, layers
        self.of_logarithm = of_logarithm
        self.rows: list[LayerScores] = []
        self.spectra: list[tuple[int, periods.Spectrum]] = []
        self.logs: list[LogRow] = []
        self.best: Layer | None = None
        self.skipped: list[str] = []
        self.used: tuple[float, ...] = ()

    def random(self, stream: int) -> np.random.Generator:
        """The same numbers for every layer."""
        return np.random.default_rng([self.p.seed, stream])

    def add(self, layer: int, name: str, points: Points, logarithm: Points | None = None) -> None:
        """Analyse the points of one layer; those for the logarithm are the same where none are given.

        Raises:
            GeometryError: there are too few numbers.
        """
        squares = float(np.square(points.means).sum()) + 1e-300
        if float(points.squares.sum() - points.within.sum()) <= LEAST_SHARE * squares:
            self.skipped.append(name)
            return
        if not self.used:
            self.used = self._periods(points)
        scores = score(points, self.random(FOLDS), periods=self.used, dims=self.p.dims)
        self.run.point()
        spectrum = periods.spectrum(points.distinct, points.means, periods=self.p.periods, hamming=self.p.hamming)
        other = log_code.positive(points if logarithm is None else logarithm)
        direction = log_code.log_direction(other, self.random(DIRECTION))
        ranking = log_code.ranking(other, self.random(RANKING))
        coordinates = self._coordinates(other)
        angles = self._angles(other, coordinates)
        rivals = log_code.rivals(other.distinct, coordinates, self.random(RIVALS), known=self._known(other))
        found = Layer(layer, name, points, other, scores, spectrum, direction, ranking, angles, rivals)
        self._take(found)

    def _periods(self, points: Points) -> tuple[float, ...]:
        used = resolved(points.distinct, self.p.periods)
        left = [f"{period:g}" for period in self.p.periods if period not in used]
        if left:
            text = (
                f"{len(points.distinct)} numbers cannot tell the period{'s' * (len(left) > 1)} {', '.join(left)}: "
                "longer than their range, or too many columns for so few numbers; left out."
            )
            self.run.say(text, "warning")
            self.run.fact("periods_left_out", text)
        return used

    def _coordinates(self, points: Points) -> Array:
        """The means' coordinates on at most 20 components, a quarter of the numbers."""
        return pca(points.x, max(min(20, len(points.distinct) // 4), 1)).scores(points.means)

    def _angles(self, points: Points, coordinates: Array) -> log_code.Angles:
        """Angles of log a in ``coordinates`` (n, k), beyond the helix and the last digit where there are 30 numbers or more."""
        return log_code.angles(np.log(points.distinct), coordinates, self.random(ANGLES), known=self._known(points))

    def _known(self, points: Points) -> Array | None:
        """What angles are looked for beyond: the helix, the last digit, and lines in log a, a and √a, in all searches alike."""
        a = points.distinct
        if len(a) < ENOUGH_FOR_DIGITS:
            return None
        lines = [np.log(a), np.sqrt(a)]  # a is a column of the helix
        return np.column_stack([design(a, periods=self.used)(a), design(a, "last digit")(a), *lines])

    def _take(self, found: Layer) -> None:
        scores = found.scores
        self.rows.append(LayerScores.of(found.layer, found.name, scores))
        self.spectra.append((found.layer, found.spectrum))
        self.logs.append(LogRow(found.layer, found.name, found.direction, found.ranking, found.angles, found.rivals))
        if self.best is None or (found.different, scores.held["helix"].r2) > (
            self.best.different,
            self.best.scores.held["helix"].r2,
        ):
            self.best = found
        self.run.log(
            found.layer,
            helix=scores.in_sample["helix"],
            held=scores.held["helix"].r2,
            shuffled=float(scores.shuffled.mean()),
            polynomial=scores.held["polynomial"].r2,
            log_beyond=found.direction.targets["log a"].beyond["a"],
        )
        if self.layers > 1:
            self.run.show("layers", number_figures.layers(self.rows, self.numbers))
        self.run.progress(len(self.rows) + len(self.skipped), self.layers, "layers", force=True)
        self.run.point()

    def finish(self) -> Layer:
        """Show the best layer in full, keep its fit, and say what was found.

        Raises:
            GeometryError: the activations are the same for all numbers at every layer.
        """
        best = self.best
        if best is None:
            raise GeometryError(
                f"The activations at {', '.join(self.skipped)} are the same for all numbers; choose a later layer or "
                "place."
            )
        if not best.different:
            self.run.say(
                f"At {best.name} some numbers have the same activations, so held-out numbers are copies of others there; "
                "choose a later layer.",
                "warning",
            )
        if self.skipped:
            self.run.say(f"Activations are the same for all numbers at {', '.join(self.skipped)}; left out.")
        self.run.stage(f"Drawing {best.name}")
        chosen = " (of all layers the one where held-out numbers are predicted best)" if len(self.rows) > 1 else ""
        where = Where(best.name + chosen, self.numbers)
        self._helix(best, where)
        self._logarithm(best, where)
        if len(self.rows) > 1:
            self.run.show("spectra", number_figures.spectra(self.spectra, self.numbers))
            self.run.show("logs", log_figures.by_layer(self.logs, self.of_logarithm))
        self._keep(best)
        return best

    def _helix(self, best: Layer, where: Where) -> None:
        points, scores, run = best.points, best.scores, self.run
        spectrum = periods.spectrum(
            points.distinct, points.means, self.random(SPECTRUM), periods=self.p.periods, hamming=self.p.hamming
        )
        run.point()
        run.show("fits", number_figures.fits(scores, points, where))
        run.show("helix", number_figures.helix(points, scores, where))
        run.show("spectrum", number_figures.spectrum(spectrum, where, hamming=self.p.hamming))
        run.show("peaks", number_figures.peaks(spectrum, where))
        run.show("residuals", number_figures.residuals(points, scores, where))
        run.show("components", number_figures.components(scores, where))
        run.show("summary", number_figures.summary(self._summary(best, spectrum), where))
        said = helix_sentence(best.name, scores, spectrum)
        run.fact("helix", said)
        run.say(said)

    def _summary(self, best: Layer, spectrum: periods.Spectrum) -> list[tuple[str, str]]:
        points, fitted = best.points, best.scores.fit
        useless = design(points.distinct, periods=self.used, keep_vanishing=True)
        held = ", ".join(map(str, fitted.held[:20])) + " …" * (len(fitted.held) > 20)
        rows = [
            ("Hook point", best.name),
            ("Different numbers", str(len(points.distinct))),
            ("Prompts", str(len(points.values))),
            ("Numbers held out of the kept fit", f"{len(fitted.held)}: {held}"),
            ("Columns", ", ".join(fitted.design.names)),
            ("Columns left out (0 at every number)", ", ".join(fitted.design.dropped) or "none"),
            ("Condition number of the design", f"{best.scores.conditioning.number:.3g}"),
            ("… with the columns left out", f"{conditioning(useless(points.distinct)).number:.1e}"),
            ("Effective rank of the design", f"{best.scores.conditioning.rank} of {fitted.design.columns}"),
            ("Principal components fitted", str(len(best.scores.variances))),
            ("Variance between numbers", f"{best.scores.between:.1%}"),
            ("Periods that stand out", ", ".join(f"{peak.period:.3g}" for peak in spectrum.peaks) or "none"),
        ]  # fmt: skip
        return rows

    def _logarithm(self, best: Layer, where: Where) -> None:
        run, points, n = self.run, best.logarithm, len(best.logarithm.distinct)
        where = Where(where.name if self.p.model else "Known code of the logarithm", self.of_logarithm)
        alike = log_code.correlations(points.distinct)
        run.show("log", log_figures.direction(best.direction, alike, where, n))
        run.show("ranking", log_figures.ranking(best.ranking, where, n))
        u, coordinates = np.log(points.distinct), self._coordinates(points)
        turns = max(
            6 * (u[-1] - u[0]) / (2 * np.pi), 4.0
        )  # 6 radians per e-fold; fewer turns are hardly told from bends
        known = log_code.planted(u, coordinates, turns, CODE, self.random(PLANTED))
        planted = self._angles(points, known)
        said = angle_sentence(best.angles, best.rivals, planted, CODE)
        run.show("angles", log_figures.angles(best.angles, planted, CODE, where, said, of="log a", rivals=best.rivals))
        run.fact("angular_code", said)
        run.say(said)
        run.fact("log_direction", direction_sentence(best.direction))
        run.say(direction_sentence(best.direction))
        run.stage("Looking for periods of the number itself, the control")
        self._control(best)

    def _control(self, best: Layer) -> None:
        """The same search along a itself, where a period of 10 is known to be found or not."""
        points = best.points
        a = points.distinct.astype(np.float64)
        coordinates = self._coordinates(points)
        length = float(a[-1] - a[0])
        count = int(min(max(2 * length, 8), MOST_FREQUENCIES))
        found = log_code.angles(a, coordinates, self.random(CONTROL), frequencies=count, permutations=99)
        known = log_code.planted(a, coordinates, max(length / 10, 2.0), CODE, self.random(PLANTED))
        self.run.point()
        planted = log_code.angles(a, known, self.random(CONTROL), frequencies=count, permutations=99)
        said = control_sentence(found, planted)
        where = Where(best.name, self.numbers)
        self.run.show("control", log_figures.angles(found, planted, CODE, where, said, of="a"))
        self.run.fact("control", said)

    def _keep(self, best: Layer) -> None:
        fitted, run = best.scores.fit, self.run
        about = {"hook": best.name, "periods": list(fitted.design.periods), "scale": fitted.design.scale}
        run.keep("coefficients", fitted.coefficients, rows=list(fitted.design.names), columns="components", **about)
        run.keep(
            "components",
            fitted.pca.components.astype(np.float32),
            rows="principal components of the training numbers",
            **about,
        )
        run.keep("mean", fitted.pca.mean, unit="units of the activations", **about)
        run.keep("train", fitted.train, what="numbers that the kept fit was fitted to")
        run.keep("held_out", fitted.held, what="numbers that the kept fit has not seen; test it on these")
        run.keep("log_direction", best.direction.vector, what="unit direction along which log a is read", **about)
        run.fact("numbers", self.numbers)
        run.fact("best_layer", best.name)
