"""What did others publish? Files with models' answers, one module per layout; start at `racro.predictions.layouts`."""

from racro.predictions.layouts import LAYOUTS, grades, read, scores
from racro.predictions.prediction import BadPredictions, Prediction

__all__ = ["LAYOUTS", "BadPredictions", "Prediction", "grades", "read", "scores"]
