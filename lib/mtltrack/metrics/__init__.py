"""Pure functions and accumulators that score predictions; importing this registers the accumulators."""

from mtltrack.metrics import classification, detection, got10k, masks, success, text

__all__ = ["classification", "detection", "got10k", "masks", "success", "text"]
