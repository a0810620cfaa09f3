"""Further changes of training crops, by name in DATA.TRANSFORMS; none is applied unless it is named.

A run without transforms sees exactly the published samples. Importing this package registers them all.
"""

from mtltrack.data.transforms.base import CropTransform, Rendered, SceneTransform, SceneView
from mtltrack.data.transforms.render_conditions import RenderConditions
from mtltrack.data.transforms.shadow import CastShadow

__all__ = ["CastShadow", "CropTransform", "RenderConditions", "Rendered", "SceneTransform", "SceneView"]
