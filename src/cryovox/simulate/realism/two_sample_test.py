"""Classifier two-sample test of real and simulated patches (Lopez-Paz and Oquab 2017, arXiv 1610.06545)."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import fft, ndimage, optimize, signal, stats

Floats = NDArray[np.float64]

SIDE = 32
BANDS = np.array([0.03, 0.08, 0.13, 0.18, 0.24, 0.32, 0.4, 0.5])
FOLDS = 4


def extract_patches(data: NDArray[Any], side: int = SIDE) -> NDArray[np.float32]:
    """Non-overlapping cubes of a volume in the order of z, y, x: (n, side, side, side)."""
    counts = [n // side for n in data.shape]
    if 0 in counts:
        raise ValueError(f"no cube of {side} voxels fits into {data.shape}")
    cut = data[tuple(slice(0, n * side) for n in counts)]
    a, b, c = counts
    cells = np.asarray(cut, np.float32).reshape(a, side, b, side, c, side).transpose(0, 2, 4, 1, 3, 5)
    return np.ascontiguousarray(cells.reshape(-1, side, side, side))


def classifier_auc(real: Sequence[NDArray[Any]], simulated: Sequence[NDArray[Any]], seed: int = 0) -> float:
    """Area under the ROC curve of a classifier of real and simulated patches; 0.5 is chance level.

    Logistic regression on standardized features (spectra, gray values, local texture) and their
    squares, with cross-validation; folds are runs of consecutive patches, so that neighbors are rarely
    in different folds.

    Parameters
    ----------
    real, simulated : (n, side, side, side)
        At least 8 patches each, in spatial order and in the same units (z-score the tomograms).
    seed
        Random seed of the folds.

    Returns
    -------
    float
        Mean over the folds.
    """
    if min(len(real), len(simulated)) < 2 * FOLDS:
        raise ValueError(f"needs {2 * FOLDS} patches of each kind, got {len(real)} and {len(simulated)}")
    rows = [np.array([features(patch) for patch in group]) for group in (real, simulated)]
    rng = np.random.default_rng(seed)
    folds = [np.roll(np.arange(len(r)) * FOLDS // len(r), int(rng.integers(len(r)))) for r in rows]
    x, fold = np.concatenate(rows), np.concatenate(folds)
    truth = np.repeat([1.0, 0.0], [len(r) for r in rows])
    areas = []
    for k in range(FOLDS):
        scores = _scores(x[fold != k], truth[fold != k], x[fold == k])
        areas.append(roc_auc(scores[truth[fold == k] == 1], scores[truth[fold == k] == 0]))
    return float(np.mean(areas))


def roc_auc(positive: Floats, negative: Floats) -> float:
    """Area under the ROC curve: the normalized Mann-Whitney statistic, ties counting half.

    Examples
    --------
    >>> roc_auc(np.array([1.0, 2.0]), np.array([0.0, 1.0]))
    0.875
    """
    ranks = stats.rankdata(np.concatenate([positive, negative]))[: len(positive)]
    return float((ranks.sum() - len(positive) * (len(positive) + 1) / 2) / (len(positive) * len(negative)))


def features(patch: NDArray[Any]) -> Floats:
    """Features of one patch: spectra along three axes and radially, moments, local texture."""
    values = np.asarray(patch, dtype=np.float64)
    std = max(float(values.std()), 1e-9)
    standard = (values - values.mean()) / std
    smooth = ndimage.gaussian_filter(standard, 1.5)
    local = np.sqrt(np.maximum(ndimage.uniform_filter(standard**2, 7), 0))
    moments = [values.mean(), np.log(std), *_shape(standard), *_shape(smooth)]
    texture = [np.log(smooth.std() + 1e-9), local.std(), *np.quantile(smooth, [0.01, 0.99])]
    return np.array([*moments, *texture, *_spectra(standard)])


def _shape(values: Floats) -> tuple[float, float]:
    standard = np.clip((values - values.mean()) / max(float(values.std()), 1e-9), -6, 6)
    return float((standard**3).mean()), float((standard**4).mean())


def _spectra(values: Floats) -> list[float]:
    taper = [signal.windows.hann(n + 2)[1:-1] for n in values.shape]
    window = taper[0][:, None, None] * taper[1][:, None] * taper[2]
    power = np.abs(fft.rfftn(values * window)) ** 2
    shape = values.shape
    k = np.meshgrid(fft.fftfreq(shape[0]), fft.fftfreq(shape[1]), fft.rfftfreq(shape[2]), indexing="ij")
    length = np.sqrt(k[0] ** 2 + k[1] ** 2 + k[2] ** 2)
    bands = []
    for cone in (None, *k):
        near = length > 0 if cone is None else np.abs(cone) > 0.8 * length
        for low, high in itertools.pairwise(BANDS):
            use = near & (length >= low) & (length < high)
            bands.append(float(np.log(power[use].mean() + 1e-12)) if use.any() else 0.0)
    return bands


def _scores(x: Floats, truth: Floats, new: Floats, weight: float = 3.0) -> Floats:
    """Fit a ridge-penalized logistic regression and return the linear predictor for *new* rows."""
    mean, std = x.mean(axis=0), x.std(axis=0) + 1e-9
    x, new = (_with_squares(np.clip((v - mean) / std, -5, 5)) for v in (x, new))

    def loss(theta: Floats) -> tuple[float, Floats]:
        linear = x @ theta[1:] + theta[0]
        value = np.logaddexp(0, linear).sum() - truth @ linear + weight / 2 * (theta[1:] @ theta[1:])
        error = 1 / (1 + np.exp(-np.clip(linear, -500, 500))) - truth
        return float(value), np.concatenate([[error.sum()], x.T @ error + weight * theta[1:]])

    theta = optimize.minimize(loss, np.zeros(x.shape[1] + 1), jac=True, method="L-BFGS-B").x
    return np.asarray(new @ theta[1:] + theta[0])


def _with_squares(x: Floats) -> Floats:
    return np.concatenate([x, x**2 - 1], axis=1)
