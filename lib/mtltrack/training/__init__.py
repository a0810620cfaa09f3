"""Training: the weighted loss, stages and freezing, the loop, checkpoints, and those who watch."""

from mtltrack.training import bad_samples, monitors

__all__ = ["bad_samples", "monitors"]
