"""Is an answer right? Start at `racro.grading.grader`; extraction, answer kinds and algebra have a file each."""

from racro.grading.extraction import boxed, extract, final_part
from racro.grading.grader import Grade, canary, equal, find, grade
from racro.grading.symbolic import GraderFailed

RULES = 6
"""Version of the rules. To be raised in the commit that changes a verdict.

It is part of the version of every stage that gives verdicts or compares answers: none by older rules comes from the
cache.
"""

__all__ = ["RULES", "Grade", "GraderFailed", "boxed", "canary", "equal", "extract", "final_part", "find", "grade"]
