"""Grading: `racro.grading.grader` is the way in; extraction, kinds and algebra are each in a file here."""

from racro.grading.extraction import boxed, extract, final_part
from racro.grading.grader import Grade, canary, equal, find, grade
from racro.grading.symbolic import GraderFailed

__all__ = ["Grade", "GraderFailed", "boxed", "canary", "equal", "extract", "final_part", "find", "grade"]
