"""A stand-in for the library `trax`: a script of requests, and a log of what the server does with them."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray


class TraxException(Exception):
    """What the library raises."""


class Rectangle:
    type = "rectangle"

    def __init__(self, *numbers: float) -> None:
        self.numbers = numbers

    @classmethod
    def create(cls, x: float, y: float, width: float, height: float) -> Rectangle:
        return cls(x, y, width, height)

    def bounds(self) -> tuple[float, ...]:
        return self.numbers


class Polygon:
    type = "polygon"

    def __init__(self, *points: tuple[float, float]) -> None:
        self.points = points

    def size(self) -> int:
        return len(self.points)

    def get(self, index: int) -> tuple[float, float]:
        return self.points[index]


class Mask:
    type = "mask"

    def __init__(self, pixels: NDArray[np.uint8], x: int = 0, y: int = 0) -> None:
        self.pixels, self.corner = pixels, (x, y)

    @classmethod
    def create(cls, pixels: NDArray[np.uint8], x: int = 0, y: int = 0) -> Mask:
        assert pixels.dtype == np.uint8 and pixels.ndim == 2 and pixels.flags["C_CONTIGUOUS"]
        return cls(pixels, x, y)

    def array(self) -> NDArray[np.uint8]:
        return self.pixels

    def offset(self) -> tuple[int, int]:
        return self.corner


class Special:
    type = "special"


class FileImage:
    def __init__(self, file: Path) -> None:
        self.file = file

    def path(self) -> str:
        return str(self.file)


class Request(NamedTuple):
    type: str
    image: dict[str, FileImage] | None
    objects: list[tuple[Any, dict[str, str]]] | None


def request(kind: str, file: Path, *regions: Any) -> Request:
    return Request(kind, {"color": FileImage(file)}, [(region, {}) for region in regions] or None)


QUIT = Request("quit", None, None)


def fake_trax(requests: list[Request], log: list[Any], hangs_up: bool = False) -> ModuleType:
    """Return a module `trax` whose server reads `requests` and writes ("made" | "answer" | "quit", ...)."""

    class Server:
        def __init__(self, regions: list[str], images: list[str], **settings: Any) -> None:
            log.append(("made", regions, images, settings))

        def wait(self) -> Request:
            log.append(("wait",))
            return requests.pop(0)

        def status(self, objects: list[tuple[Any, dict[str, Any]]]) -> None:
            log.append(("answer", objects))

        def quit(self, reason: str | None = None) -> None:
            log.append(("quit", reason))
            if hangs_up:
                raise TraxException("nobody listens")

    module = ModuleType("trax")
    module.Server = Server  # type: ignore[attr-defined]
    module.Rectangle, module.Mask, module.TraxException = Rectangle, Mask, TraxException  # type: ignore[attr-defined]
    module.Region = type("Region", (), {"RECTANGLE": "rectangle", "MASK": "mask"})  # type: ignore[attr-defined]
    module.Image = type("Image", (), {"PATH": "path"})  # type: ignore[attr-defined]
    statuses = {"QUIT": "quit", "INITIALIZE": "initialize", "FRAME": "frame"}
    module.TraxStatus = type("TraxStatus", (), statuses)  # type: ignore[attr-defined]
    return module
