"""Training: the weighted loss, stages and freezing, the loop, checkpoints, and those who watch."""

from mtltrack.training import monitors

__all__ = ["monitors"]
