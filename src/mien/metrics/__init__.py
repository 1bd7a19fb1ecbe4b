"""Metrics as functions of numpy arrays.

Most metrics are functions of sums over images (hits, sums of squares). Sums and formulas are separate functions, so that one
bootstrap yields the intervals of all metrics (`mien.metrics.intervals`). Tests compare with scikit-learn and scipy.
"""

from .affect import abaw_p, concordance, pearson, root_mean_square_error, sign_agreement, unit_f1
from .calibration import (
    ReliabilityBin,
    RiskCoverage,
    brier,
    checked_probabilities,
    expected_calibration_error,
    log_loss,
    log_losses,
    reliability,
    risk_coverage,
    squared_errors,
)
from .classification import accuracy, confusion, divide, f1_scores, kappa, macro_f1, precisions, recalls, uar
from .intervals import basic_interval, bootstrap, holm, interval, mcnemar, mean_and_deviation, paired_bootstrap, two_sided_p

__all__ = [
    "ReliabilityBin", "RiskCoverage", "abaw_p", "accuracy", "basic_interval", "bootstrap", "brier",
    "checked_probabilities", "concordance", "confusion", "divide", "expected_calibration_error", "f1_scores", "holm",
    "interval", "kappa", "log_loss", "log_losses", "macro_f1", "mcnemar", "mean_and_deviation", "paired_bootstrap",
    "pearson", "precisions", "recalls", "reliability", "risk_coverage", "root_mean_square_error", "sign_agreement",
    "squared_errors", "two_sided_p", "uar", "unit_f1",
]  # fmt: skip
