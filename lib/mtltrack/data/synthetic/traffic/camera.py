"""The pinhole camera over the road.

World: x to the right and y along the road (metres, on the ground), z up. Image: continuous pixels, pixel i
covers [i, i + 1). The camera has no roll.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

NEAREST = 0.4  # metres before the camera; what lies nearer, or behind, isn't drawn


@dataclass(frozen=True)
class Camera:
    """A fixed camera.

    Attributes:
        position: (3,) metres.
        axes: (3, 3) rows: the image's x, the image's y, the way it looks, as unit vectors of the world.
        focal: pixels.
        centre: (2,) principal point, pixels.
    """

    position: Array
    axes: Array
    focal: float
    centre: Array

    @classmethod
    def towards(cls, position: Array, goal: Array, focal: float, size: tuple[int, int]) -> Camera:
        """Return a camera at `position` (3,) that looks at `goal` (3,), for frames of `size` pixels."""
        forward = (goal - position) / np.linalg.norm(goal - position)
        right = np.cross(forward, [0.0, 0.0, 1.0])
        right /= np.linalg.norm(right)
        axes = np.stack([right, np.cross(forward, right), forward])
        return cls(position, axes, focal, np.array(size, np.float64) / 2)

    def project(self, points: Array) -> Array:
        """Map (..., 3) metres to (..., 3): x and y in pixels, and the distance along the way it looks.

        Points nearer than NEAREST come out at NEAREST before the camera; their third value tells.
        """
        seen = (points - self.position) @ self.axes.T
        depth = np.maximum(seen[..., 2:], NEAREST)
        seen[..., :2] *= self.focal / depth
        seen[..., :2] += self.centre
        return seen

    def project_ground(self, points: Array) -> Array:
        """Map (..., 2) metres on the ground to (..., 2) pixels."""
        flat = np.concatenate([points, np.zeros((*points.shape[:-1], 1))], axis=-1)
        return self.project(flat)[..., :2]

    def ground_matrix(self) -> Array:
        """Return the (3, 3) homography from the ground (x, y, 1) to pixels."""
        turned = np.column_stack([self.axes[:, :2], -self.axes @ self.position])
        intrinsic = np.array([[self.focal, 0, self.centre[0]], [0, self.focal, self.centre[1]], [0, 0, 1.0]])
        return intrinsic @ turned

    def horizon(self) -> float:
        """Return the row of the horizon, pixels."""
        return float(self.centre[1] + self.focal * self.axes[2, 2] / -self.axes[1, 2])

    def ground_depth(self, rows: Array) -> Array:
        """Return how far away the ground is at image rows, metres along its gaze; inf above the horizon."""
        down = (rows - self.centre[1]) / self.focal * -self.axes[1, 2] - self.axes[2, 2]
        with np.errstate(divide="ignore"):
            return np.where(down > 1e-6, self.position[2] / np.maximum(down, 1e-6), np.inf)

    def moved(self, margin: int) -> Camera:
        """Return the camera of a canvas that is `margin` pixels larger at each side."""
        return Camera(self.position, self.axes, self.focal, self.centre + margin)


def placed(points: Array, poses: Array) -> Array:
    """Map points (P, 3) of a body to the world for poses (..., 3): x, y, heading; returns (..., P, 3).

    A body's x points forward, its y to the left. Heading 0 looks along the world's x, turning to the left.
    """
    cosine, sine = np.cos(poses[..., 2:3]), np.sin(poses[..., 2:3])
    x = poses[..., 0:1] + cosine * points[:, 0] - sine * points[:, 1]
    y = poses[..., 1:2] + sine * points[:, 0] + cosine * points[:, 1]
    z = np.broadcast_to(points[:, 2], x.shape)
    return np.stack([x, y, z], axis=-1)
