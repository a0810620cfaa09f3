"""The data sets; importing this package registers them all."""

from mtltrack.data.datasets.ccpd import Ccpd
from mtltrack.data.datasets.coco import Coco
from mtltrack.data.datasets.davis import Davis
from mtltrack.data.datasets.folder import FolderSequences
from mtltrack.data.datasets.got10k import Got10k
from mtltrack.data.datasets.imagenet_vid import ImagenetVid
from mtltrack.data.datasets.lasot import Lasot
from mtltrack.data.datasets.pklot import PkLot
from mtltrack.data.datasets.plate_crops import PlateCrops
from mtltrack.data.datasets.plate_scenes import PlateScenes
from mtltrack.data.datasets.trackingnet import TrackingNet
from mtltrack.data.synthetic.plate_photos import RenderedPlates
from mtltrack.data.synthetic.sequences import SyntheticSequences
from mtltrack.data.synthetic.traffic.sequences import TrafficSequences

__all__ = [
    "Ccpd",
    "Coco",
    "Davis",
    "FolderSequences",
    "Got10k",
    "ImagenetVid",
    "Lasot",
    "PkLot",
    "PlateCrops",
    "PlateScenes",
    "RenderedPlates",
    "SyntheticSequences",
    "TrackingNet",
    "TrafficSequences",
]
