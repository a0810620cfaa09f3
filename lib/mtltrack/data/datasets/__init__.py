"""The data sets; importing this package registers them all."""

from mtltrack.data.datasets.folder import FolderSequences
from mtltrack.data.synthetic.sequences import SyntheticSequences

__all__ = ["FolderSequences", "SyntheticSequences"]
