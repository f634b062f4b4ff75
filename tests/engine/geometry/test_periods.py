"""Spectra along the number line of planted helices, waves and noise."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.signal import periodogram

from engine.geometry.errors import GeometryError
from engine.geometry.periods import grid, spectrum
from engine.geometry.synthetic_numbers import planted_helix

PERIODS = (2, 5, 10, 100)


def of_helix(seed=1, n=300):
    values = np.arange(n)
    x = planted_helix(values, np.random.default_rng([seed, 1]))
    return spectrum(values, x, np.random.default_rng([seed, 3]), periods=PERIODS)


@pytest.mark.parametrize("seed", range(5))
def test_the_periods_of_a_helix_and_no_others_are_found(seed):
    found = of_helix(seed)
    assert sorted(peak.period for peak in found.peaks) == pytest.approx([2, 5, 10, 100])
    assert found.peaks[0].period == pytest.approx(2)  # one column holds what cosine and sine share elsewhere
    assert sum(peak.share for peak in found.peaks) > 0.9


def test_peaks_come_in_the_order_of_their_power():
    assert [peak.period for peak in of_helix(1).peaks] == pytest.approx([2, 5, 10, 100])


@pytest.mark.parametrize("n", [361, 270, 90])
def test_periods_are_met_exactly_when_their_numbers_are_no_multiple_of_them(n):
    wanted = {2.0, 5.0, 10.0, 100.0} if n >= 100 else {2.0, 5.0, 10.0}
    found = {round(peak.period, 6) for peak in of_helix(2, n).peaks}
    assert wanted <= found
    assert len(found) <= len(wanted) + 1


def test_the_power_is_that_of_scipy():
    values = np.arange(200)
    x = np.random.default_rng(0).standard_normal((200, 3)) + values[:, None] * 0.01
    found = spectrum(values, x, periods=PERIODS)
    for detrend, mine in (("constant", found.centred), ("linear", found.detrended)):
        _, power = periodogram(x, axis=0, detrend=detrend, return_onesided=False, scaling="density")
        np.testing.assert_allclose(mine, power.mean(axis=1)[1:101], rtol=1e-9, atol=1e-12)


def test_the_trend_hides_in_the_low_end_and_goes_with_its_removal():
    values = np.arange(300)
    found = spectrum(values, values[:, None] * np.ones((1, 4)))
    assert found.centred[0] > 100 * found.centred[50]
    assert found.detrended.max() < 1e-12 * found.centred[0]


def test_a_hamming_window_narrows_the_feet_of_a_peak_between_bins():
    values = np.arange(300)
    wave = np.cos(2 * np.pi * values / 10.2)[:, None]
    plain, windowed = (spectrum(values, wave, hamming=hamming) for hamming in (False, True))
    far = np.abs(plain.frequencies - 1 / 10.2) > 0.1
    assert windowed.detrended[far].max() < 0.1 * plain.detrended[far].max()


def test_noise_has_peaks_as_rarely_as_said():
    random = np.random.default_rng(11)
    values = np.arange(60)
    draws = [spectrum(values, random.standard_normal((60, 8)), random, shuffles=100) for _ in range(60)]
    assert sum(bool(found.peaks) for found in draws) <= 9  # 3 expected, 5 %
    expected = np.mean([found.detrended.mean() / found.expected for found in draws])
    assert expected == pytest.approx(1, abs=0.1)
    inside = np.mean(
        [((found.detrended > found.band[0]) & (found.detrended < found.band[1])).mean() for found in draws]
    )
    assert inside == pytest.approx(0.95, abs=0.03)


def test_the_grid_meets_periods_only_where_that_is_not_absurdly_fine():
    assert len(grid(np.arange(300), PERIODS)) == 150
    assert 1 / 10 in grid(np.arange(361), PERIODS)
    assert len(grid(np.arange(10), PERIODS)) == 5
    assert len(grid(np.arange(10), ())) == 5


def test_order_and_gaps_of_the_numbers_do_no_harm():
    values = np.arange(200)
    x = planted_helix(values, np.random.default_rng(7))
    order = np.random.default_rng(8).permutation(200)
    np.testing.assert_allclose(spectrum(values[order], x[order]).centred, spectrum(values, x).centred)
    kept = np.sort(np.random.default_rng(9).choice(200, 170, replace=False))
    found = spectrum(values[kept], x[kept], np.random.default_rng(10), periods=PERIODS)
    assert {2.0, 5.0, 10.0, 100.0} <= {round(peak.period, 6) for peak in found.peaks}


def test_too_few_or_doubled_numbers_are_refused():
    with pytest.raises(GeometryError, match="at least 6 different numbers"):
        spectrum(np.arange(5), np.ones((5, 2)))
    with pytest.raises(GeometryError, match="8 rows of 4"):
        spectrum(np.repeat(np.arange(4), 2), np.ones((8, 2)))
