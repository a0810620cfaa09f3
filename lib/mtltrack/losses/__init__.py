"""Pure tensor functions: one loss value a sample, nothing reduced over the batch."""

from mtltrack.losses import boxes, classification, focal, masks

__all__ = ["boxes", "classification", "focal", "masks"]
