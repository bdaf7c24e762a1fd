"""Predictions in files: `racro.predictions.layouts` reads and scores them; each layout is in a file here."""

from racro.predictions.layouts import LAYOUTS, grades, read, scores
from racro.predictions.prediction import BadPredictions, Prediction

__all__ = ["LAYOUTS", "BadPredictions", "Prediction", "grades", "read", "scores"]
