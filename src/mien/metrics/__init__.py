"""Figures of merit, each from its definition, with numpy only.

>>> import numpy as np
>>> from mien.metrics import accuracy, confusion
>>> counts = confusion(np.array([0, 0, 1]), np.array([0, 1, -1]), classes=2)
>>> round(accuracy(counts), 3)
0.333
"""

from ._checks import UNANSWERED
from .affect import abaw_p, ccc, pearson, rmse, sign_agreement, unit_f1
from .classification import ClassFigures, accuracy, confusion, f1_scores, kappa, macro_f1, per_class, uar
from .comparison import McNemar, holm, mcnemar, paired_bootstrap, stars
from .intervals import Interval, bootstrap, classification_intervals, mean_and_deviation
from .probabilities import Reliability, aurc, brier, ece, nll, reliability, risk_coverage

__all__ = [
    "UNANSWERED",
    "ClassFigures",
    "Interval",
    "McNemar",
    "Reliability",
    "abaw_p",
    "accuracy",
    "aurc",
    "bootstrap",
    "brier",
    "ccc",
    "classification_intervals",
    "confusion",
    "ece",
    "f1_scores",
    "holm",
    "kappa",
    "macro_f1",
    "mcnemar",
    "mean_and_deviation",
    "nll",
    "paired_bootstrap",
    "pearson",
    "per_class",
    "reliability",
    "risk_coverage",
    "rmse",
    "sign_agreement",
    "stars",
    "uar",
    "unit_f1",
]
