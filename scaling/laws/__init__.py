"""Scaling-law estimation: numpy and scipy only, no torch."""

from scaling.laws.errors import LawError
from scaling.laws.fit import LawFit, fit_law
from scaling.laws.frontier import Frontier, FrontierRegression, SlopeBootstrap, frontier
from scaling.laws.grid_bias import GridBias, grid_bias
from scaling.laws.isoflop import Isoflop, isoflop
from scaling.laws.regression import Exponents, Regression, exponents, regress
from scaling.laws.slices import isoflop_from_grid

__all__ = [
    "Exponents",
    "Frontier",
    "FrontierRegression",
    "GridBias",
    "Isoflop",
    "LawError",
    "LawFit",
    "Regression",
    "SlopeBootstrap",
    "exponents",
    "fit_law",
    "frontier",
    "grid_bias",
    "isoflop",
    "isoflop_from_grid",
    "regress",
]
