"""Scaling-law estimation: numpy and scipy only, no torch."""

from scaling.laws.errors import LawError
from scaling.laws.fit import LawFit, fit_law

__all__ = ["LawError", "LawFit", "fit_law"]
