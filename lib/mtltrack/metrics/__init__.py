"""Pure functions and accumulators that score predictions; importing this registers the accumulators."""

from mtltrack.metrics import classification, got10k, success

__all__ = ["classification", "got10k", "success"]
