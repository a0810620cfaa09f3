"""The tasks: head, loss terms, decoding and metrics of each, one file a task."""

from mtltrack.tasks import box, cls

__all__ = ["box", "cls"]
