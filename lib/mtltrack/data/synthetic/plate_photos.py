"""Pictures of rendered plates as a camera sees them: on a piece of vehicle, tilted, blurred, badly lit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from mtltrack.core.errors import DataError, did_you_mean
from mtltrack.core.registry import DATASETS
from mtltrack.data.sequences import PlateLabel, SequenceInfo
from mtltrack.data.synthetic.plates import Plate, draw_plate, plate_kinds

PLATE_WIDTHS = (64, 200)  # pixels, least and most
MARGINS = (0.35, 0.8)  # most of what is to be seen beside the plate, shares of its width and height

Image = NDArray[np.uint8]
FloatImage = NDArray[np.float32]


@dataclass(frozen=True)
class Still:
    """A picture with a plate in it.

    Attributes:
        image: (h, w, 3) uint8 RGB.
        box_xyxy: the smallest upright box around the plate, in pixels of the picture.
        text: what the plate says.
        kind: its format.
    """

    image: Image
    box_xyxy: tuple[float, float, float, float]
    text: str
    kind: str


def photograph(rng: np.random.Generator, plate: Plate) -> Still:
    """Return a plate with a little of what is around it; a pure function of rng's state.

    How badly it was taken, from hardly at all to barely readable, is drawn for each picture.
    """
    badness = float(rng.random())
    view, box = _tilt(rng, plate.image, badness)
    picture = _light(rng, view.astype(np.float32), badness)
    width = float(np.exp(rng.uniform(*np.log(PLATE_WIDTHS))))
    scale = width / (box[2] - box[0])
    size = (round(picture.shape[1] * scale), max(12, round(picture.shape[0] * scale)))
    box *= np.array([*size, *size]) / np.array([*view.shape[1::-1], *view.shape[1::-1]])
    picture = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
    picture = _blur(rng, picture, badness, width)
    picture += rng.normal(0, rng.uniform(0, 9) * badness, picture.shape).astype(np.float32)
    image = np.clip(picture, 0, 255).astype(np.uint8)
    if rng.random() < badness:
        quality = [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(35, 95))]
        image = cv2.imdecode(cv2.imencode(".jpg", image, quality)[1], cv2.IMREAD_COLOR)
    x1, y1, x2, y2 = box.tolist()
    return Still(image, (x1, y1, x2, y2), plate.text, plate.kind)


def _tilt(rng: np.random.Generator, image: Image, badness: float) -> tuple[Image, NDArray[np.float64]]:
    """See the plate from one side, on a piece of vehicle; also return the box around it, x1, y1, x2, y2."""
    h, w = image.shape[:2]
    corners = np.array([[0, 0], [w, 0], [w, h], [0, h]], np.float32)
    strong = rng.random() < badness
    turn = np.deg2rad(rng.normal(0, 5.0 if strong else 1.0))
    turned = (corners - [w / 2, h / 2]) @ np.array(
        [[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]]
    )
    turned[:, 0] += rng.normal(0, 0.12 if strong else 0.02) * turned[:, 1]  # leaning
    turned[:, 1] *= 1 + rng.normal(0, 0.08 if strong else 0.02) * np.sign(turned[:, 0])  # one end nearer
    turned[:, 0] *= rng.uniform(0.75, 1.1)  # from the side, or not quite the nominal proportions
    low, high = turned.min(0), turned.max(0)
    margins = rng.uniform(0, MARGINS, (2, 2)) * (high - low)  # before and behind, of width and height
    start = low - margins[0]
    size = np.ceil(high + margins[1] - start).astype(int)
    matrix = cv2.getPerspectiveTransform(corners, (turned - start).astype(np.float32))
    canvas = _surroundings(rng, int(size[0]), int(size[1]))
    cv2.warpPerspective(
        image, matrix, (int(size[0]), int(size[1])), canvas, cv2.INTER_LINEAR, cv2.BORDER_TRANSPARENT
    )
    return canvas, np.concatenate([low - start, high - start])


def _surroundings(rng: np.random.Generator, width: int, height: int) -> Image:
    """A piece of a vehicle: a colour that changes slowly, or two with an edge between them."""
    base = rng.uniform(0, 230, 3)
    small = base + rng.normal(0, 25, (3, 4, 3))
    smooth = cv2.resize(
        np.clip(small, 0, 255).astype(np.uint8), (width, height), interpolation=cv2.INTER_LINEAR
    )
    if rng.random() < 0.5:
        colour = tuple(int(c) for c in rng.uniform(0, 255, 3))
        y = int(rng.uniform(0, height))
        cv2.line(
            smooth, (0, y), (width, y + int(rng.normal(0, height / 4))), colour, int(rng.integers(2, 10))
        )
    return smooth


def _light(rng: np.random.Generator, picture: FloatImage, badness: float) -> FloatImage:
    """Change contrast, brightness and colour; light falls off across the plate, or a shadow lies on it."""
    h, w = picture.shape[:2]
    grey = picture.mean()
    contrast = 1.1 - badness * rng.uniform(0, 0.8)
    cast = 1 + rng.normal(0, 0.12, 3)
    level = 1 + badness * rng.uniform(-0.65, 0.25)
    picture = ((picture - grey) * contrast + grey) * (level * cast).astype(np.float32)
    angle, depth = rng.uniform(0, 2 * np.pi), badness * rng.uniform(0, 0.5)
    x, y = np.meshgrid(np.linspace(-1, 1, w), np.linspace(-1, 1, h))
    along = np.cos(angle) * x + np.sin(angle) * y
    if rng.random() < 0.25:
        along = np.tanh((along - rng.uniform(-0.5, 0.5)) * 12)
    return (picture * (1 + depth * along)[..., None]).astype(np.float32)


def _blur(rng: np.random.Generator, picture: FloatImage, badness: float, width: float) -> FloatImage:
    """Out of focus, or moved along a short line; little enough for a plate `width` pixels wide to be read."""
    draw = rng.random()
    if draw < 0.45:
        return cv2.GaussianBlur(picture, (0, 0), 0.2 + badness * rng.uniform(0, 0.009 * width))
    if draw < 0.65:
        length = max(1, round(badness * rng.uniform(0.01, 0.04) * width))
        kernel = np.zeros((2 * length + 1, 2 * length + 1), np.float32)
        angle = rng.uniform(0, np.pi)
        step = (length * np.cos(angle) / 2, length * np.sin(angle) / 2)
        ends = [
            (round(length - step[0]), round(length - step[1])),
            (round(length + step[0]), round(length + step[1])),
        ]
        cv2.line(kernel, ends[0], ends[1], (1.0,))
        return cv2.filter2D(picture, -1, kernel / kernel.sum(), borderType=cv2.BORDER_REPLICATE)
    return picture


@DATASETS.register_module()
class RenderedPlates:
    """Stills of rendered plates, each on a piece of vehicle that is the target. They teach to read.

    Picture i is a pure function of seed and i; a longer set starts with the pictures of a shorter one.

    Args:
        num_sequences: how many pictures, at least 1.
        seed: other seeds give other plates.
        kinds: formats to draw (`plates.plate_kinds`), each as often as it is named; None: all alike.

    Raises:
        DataError: an argument is out of range, or a format is unknown.
    """

    name = "RenderedPlates"
    labelled_tasks = ("plate", "ocr")

    def __init__(self, num_sequences: int = 20000, seed: int = 0, kinds: Sequence[str] | None = None) -> None:
        if num_sequences < 1 or seed < 0:
            raise DataError(
                "RenderedPlates needs NUM_SEQUENCES of at least 1 and SEED of at least 0; found "
                f"{num_sequences} and {seed}."
            )
        self.kinds = tuple(plate_kinds() if kinds is None else kinds)
        for kind in self.kinds:
            if kind not in plate_kinds():
                raise DataError(
                    f"RenderedPlates' KINDS names '{kind}'.{did_you_mean(kind, plate_kinds())} Choose from: "
                    f"{', '.join(plate_kinds())}."
                )
        if not self.kinds:
            raise DataError("RenderedPlates' KINDS is empty. Name formats, or leave it out for all.")
        self.seed = seed
        self._num_sequences = num_sequences
        self._last: tuple[int, Still] | None = None  # label and picture of a sample come from one drawing

    @property
    def num_sequences(self) -> int:
        return self._num_sequences

    def sequence_name(self, i: int) -> str:
        """Return the name of picture `i`, which tells the seed."""
        return f"plate{self.seed}-{i:06d}"

    def still(self, i: int) -> Still:
        """Draw picture `i`."""
        if not 0 <= i < self._num_sequences:
            raise DataError(f"no rendered plate {i}: NUM_SEQUENCES is {self._num_sequences}, from 0 on")
        if self._last is None or self._last[0] != i:
            rng = np.random.default_rng([self.seed, i])
            kind = self.kinds[int(rng.integers(len(self.kinds)))]
            self._last = (i, photograph(rng, draw_plate(rng, kind)))
        return self._last[1]

    def sequence(self, i: int) -> SequenceInfo:
        """Return the labels of picture `i`."""
        still = self.still(i)
        label = PlateLabel(still.box_xyxy, still.text, f"{self.name} picture {i}")
        return still_plate(self.sequence_name(i), still.image.shape[:2], label)

    def image(self, i: int, frame: int) -> Image:  # noqa: ARG002  # a still image has one frame
        """Return picture `i` as (H, W, 3) uint8 RGB."""
        return self.still(i).image

    def mask(self, i: int, frame: int) -> NDArray[np.uint8]:  # noqa: ARG002
        """Refuse: these pictures have no masks."""
        raise DataError(f"{self.name} has no masks; it labels plate and text.")


def still_plate(name: str, shape: tuple[int, ...], plate: PlateLabel) -> SequenceInfo:
    """Return what is known of a still image of a plate, which is cut around as a whole.

    Args:
        name: of the sequence.
        shape: height and width of the image in pixels.
        plate: where it is and what it says.
    """
    height, width = shape
    return SequenceInfo(
        name,
        np.array([[0.0, 0.0, width, height]]),
        np.array([True]),
        is_video=False,
        whole_length=1,
        plates={0: plate},
        box_labelled=False,
        has_text=True,
    )
