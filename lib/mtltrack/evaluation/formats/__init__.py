"""Result files and ground truth of other programs, told apart by what stands in them."""

from __future__ import annotations

from mtltrack.evaluation.formats.finding import FoundResults, find_results
from mtltrack.evaluation.formats.names import match_names
from mtltrack.evaluation.formats.truths import load_truths

__all__ = ["FoundResults", "find_results", "load_truths", "match_names"]
