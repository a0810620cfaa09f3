"""Backbones by their registered names (MODEL.BACKBONE.TYPE)."""

from mtltrack.models.backbones import vit

__all__ = ["vit"]
