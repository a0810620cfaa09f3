"""Registries: building by name, and what an unknown name says."""

from __future__ import annotations

import pytest
from mmengine import registry as mmengine_registry

from mtltrack.core import registry as registries
from mtltrack.core.errors import MtltrackError, UnknownNameError
from mtltrack.core.registry import Registry


@pytest.fixture
def shapes() -> Registry:
    registry = Registry("shape", mmengine_registry.MODELS, [])

    @registry.register_module()
    class Circle:
        def __init__(self, radius: float) -> None:
            self.radius = radius

    @registry.register_module()
    class Square:
        pass

    return registry


def test_build_by_name(shapes: Registry) -> None:
    assert shapes.create("Circle", radius=2.0).radius == 2.0
    assert shapes.get("mtltrack.Circle") is shapes.get("Circle")
    assert shapes.build({"type": "Circle", "radius": 3.0}).radius == 3.0


def test_unknown_name_lists_candidates_and_the_nearest(shapes: Registry) -> None:
    with pytest.raises(UnknownNameError) as caught:
        shapes.get("Cirle")
    assert (
        str(caught.value)
        == "'Cirle' is not a registered shape. Did you mean 'Circle'? Registered: Circle, Square."
    )
    with pytest.raises(
        KeyError, match=r"^'Hexagon' is not a registered shape\. Registered: Circle, Square\.$"
    ):
        shapes.get("Hexagon")
    with pytest.raises(MtltrackError):
        shapes.get("Hexagon")


def test_empty_registry() -> None:
    with pytest.raises(UnknownNameError, match=r"Registered: none\."):
        Registry("thing", mmengine_registry.MODELS, []).get("x")


def test_scope_of_a_package_that_is_not_installed(shapes: Registry) -> None:
    with pytest.raises(UnknownNameError) as caught:
        shapes.get("nosuchpackage.GIoULoss")
    message = str(caught.value)
    assert (
        "'nosuchpackage.GIoULoss' names a shape of the package 'nosuchpackage', which can't be imported"
        in message
    )
    assert "or name a native part: Circle, Square." in message


def test_root_scope_of_mmengine(shapes: Registry) -> None:
    with pytest.raises(UnknownNameError, match=r"'mmengine\.NoSuchModel' is not a registered shape"):
        shapes.get("mmengine.NoSuchModel")
    name = sorted(mmengine_registry.MODELS.module_dict)[0]
    assert shapes.get(f"mmengine.{name}") is mmengine_registry.MODELS.module_dict[name]


def test_each_kind_of_part_has_its_registry() -> None:
    names = ["BACKBONES", "HEADS", "LOSSES", "DATASETS", "TRANSFORMS", "METRICS", "MONITORS"]
    found = [getattr(registries, name) for name in names]
    assert {registry.scope for registry in found} == {"mtltrack"}
    assert len({registry.name for registry in found}) == len(names)


def test_same_name_in_two_registries_below_one_root() -> None:
    one, other = (Registry(name, mmengine_registry.MODELS, []) for name in ("one", "other"))
    one.register_module(name="Part", module=int)
    other.register_module(name="Part", module=float)
    assert (one.get("Part"), other.get("Part")) == (int, float)
