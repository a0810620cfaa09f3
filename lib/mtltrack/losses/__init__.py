"""Pure tensor functions: one loss value a sample, nothing reduced over the batch."""

from mtltrack.losses import boxes, classification, ctc, ctc_decoding, focal, masks

__all__ = ["boxes", "classification", "ctc", "ctc_decoding", "focal", "masks"]
