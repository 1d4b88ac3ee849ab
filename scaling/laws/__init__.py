"""Scaling-law estimation: numpy and scipy only, no torch."""

from scaling.laws.critical_batch import CriticalBatch, TradeOff, critical_batch, trade_off
from scaling.laws.envelope import Curve, Envelope, envelope
from scaling.laws.errors import LawError
from scaling.laws.fit import LawFit, fit_law
from scaling.laws.frontier import Frontier, FrontierRegression, SlopeBootstrap, frontier
from scaling.laws.grid_bias import GridBias, grid_bias
from scaling.laws.holdout import HitchhikerAre, HoldOut, hitchhiker_are, hold_out
from scaling.laws.isoflop import Isoflop, isoflop
from scaling.laws.kaplan import PF_DAY, Kaplan, PowerLaw, kaplan
from scaling.laws.multiplier import Multiplier, compute_multiplier
from scaling.laws.regression import Exponents, Regression, exponents, regress
from scaling.laws.slices import isoflop_from_grid

__all__ = [
    "PF_DAY",
    "CriticalBatch",
    "Curve",
    "Envelope",
    "Exponents",
    "Frontier",
    "FrontierRegression",
    "GridBias",
    "HitchhikerAre",
    "HoldOut",
    "Isoflop",
    "Kaplan",
    "LawError",
    "LawFit",
    "Multiplier",
    "PowerLaw",
    "Regression",
    "SlopeBootstrap",
    "TradeOff",
    "compute_multiplier",
    "critical_batch",
    "envelope",
    "exponents",
    "fit_law",
    "frontier",
    "grid_bias",
    "hitchhiker_are",
    "hold_out",
    "isoflop",
    "isoflop_from_grid",
    "kaplan",
    "regress",
    "trade_off",
]
