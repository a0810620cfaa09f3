"""The registries: everything that a YAML can name by its TYPE.

Each registry hangs below mmengine's root registry of the same kind, so that a part of another OpenMMLab
package can be named with its scope (`mmdet.GIoULoss`) when that package is installed.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

from mmengine import registry as mmengine_registry
from mmengine.registry import Registry as MmengineRegistry

from mtltrack.core.errors import UnknownNameError, did_you_mean

SCOPE = "mtltrack"


class Registry(MmengineRegistry):
    """An mmengine registry whose unknown-name error lists the candidates and the nearest spelling.

    mmengine allows one child a scope below each root; here backbones, heads and losses share the root MODELS.
    So the parent is known for look-ups of foreign scopes, but the child isn't entered in the parent's list.
    """

    def __init__(self, name: str, parent: MmengineRegistry, locations: list[str]) -> None:
        super().__init__(name, scope=SCOPE, locations=locations)
        self.parent = parent
        self.build_func = parent.build_func

    def get(self, key: str) -> Any:
        """Return the class or function registered as `key`, or raise `UnknownNameError`."""
        self.import_from_location()
        scope, name = self.split_scope_key(key)
        if scope in (None, SCOPE):
            found = self.module_dict.get(name)
        else:
            found = self._get_foreign(scope, name)
        if found is None:
            names = sorted(self.module_dict)
            raise UnknownNameError(
                f"'{key}' is not a registered {self.name}.{did_you_mean(key, names)} "
                f"Registered: {', '.join(names) or 'none'}."
            )
        return found

    def _get_foreign(self, scope: str, name: str) -> Any:
        """Look `name` up in another OpenMMLab package; None unless that package registered it."""
        root = self._get_root_registry()
        if scope not in root.children and scope != root.scope:
            try:
                import_module(f"{scope}.registry")
            except ImportError as error:
                raise UnknownNameError(
                    f"'{scope}.{name}' names a {self.name} of the package '{scope}', which can't be "
                    f"imported here ({error}). Install it (for mmdet: the extra 'mmdet'), or name a native "
                    f"part: {', '.join(sorted(self.module_dict)) or 'none'}."
                ) from error
        if scope == root.scope:
            return root.module_dict.get(name)
        child = root.children.get(scope)
        return None if child is None else child.get(name)

    def create(self, key: str, /, **arguments: Any) -> Any:
        """Build the part registered as `key` from plain keyword arguments."""
        return self.get(key)(**arguments)


BACKBONES = Registry("backbone", mmengine_registry.MODELS, ["mtltrack.models.backbones"])
HEADS = Registry("head", mmengine_registry.MODELS, ["mtltrack.tasks"])
LOSSES = Registry("loss", mmengine_registry.MODELS, ["mtltrack.losses"])
DATASETS = Registry("dataset", mmengine_registry.DATASETS, ["mtltrack.data.datasets"])
TRANSFORMS = Registry("transform", mmengine_registry.TRANSFORMS, ["mtltrack.data.transforms"])
_SCORES = ("classification", "detection", "got10k", "masks", "success", "text")
METRICS = Registry("metric", mmengine_registry.METRICS, [f"mtltrack.metrics.{name}" for name in _SCORES])
MONITORS = Registry("monitor", mmengine_registry.HOOKS, ["mtltrack.training"])
BALANCING = Registry("balancing rule", mmengine_registry.OPTIM_WRAPPERS, ["mtltrack.training.balancing"])
