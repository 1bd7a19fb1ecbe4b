"""Figures that say how good predictions are: formulas on arrays, nothing about models or files.

Most figures are functions of sums over images: numbers of hits, sums of squares. The classes here keep those sums apart from
the formula, so that one resampling gives the interval of every figure (`mien.metrics.intervals`).

Everything is numpy; the tests hold scikit-learn and scipy against it.
"""

from __future__ import annotations

from .abstention import RiskCoverage, risk_coverage
from .affect import abaw_p, concordance, pearson, root_mean_square_error, sign_agreement, unit_f1
from .classification import accuracy, confusion, f1_scores, kappa, macro_f1, precisions, recalls, uar
from .intervals import basic_interval, bootstrap, holm, interval, mcnemar, mean_and_deviation, paired_bootstrap
from .probabilities import (
    ReliabilityBin,
    brier,
    checked_probabilities,
    expected_calibration_error,
    log_losses,
    negative_log_likelihood,
    reliability,
)

__all__ = [
    "ReliabilityBin",
    "RiskCoverage",
    "abaw_p",
    "accuracy",
    "basic_interval",
    "bootstrap",
    "brier",
    "checked_probabilities",
    "concordance",
    "confusion",
    "expected_calibration_error",
    "f1_scores",
    "holm",
    "interval",
    "kappa",
    "log_losses",
    "macro_f1",
    "mcnemar",
    "mean_and_deviation",
    "negative_log_likelihood",
    "paired_bootstrap",
    "pearson",
    "precisions",
    "recalls",
    "reliability",
    "risk_coverage",
    "root_mean_square_error",
    "sign_agreement",
    "uar",
    "unit_f1",
]
