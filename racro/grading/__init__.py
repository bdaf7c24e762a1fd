"""Is an answer right? Start at `racro.grading.grader`; extraction, answer kinds and algebra have a file each."""

from racro.grading.extraction import boxed, extract, final_part
from racro.grading.grader import Grade, canary, equal, find, grade
from racro.grading.symbolic import GraderFailed

__all__ = ["Grade", "GraderFailed", "boxed", "canary", "equal", "extract", "final_part", "find", "grade"]
