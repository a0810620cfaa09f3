"""Balancing: how much each task counts in a step. One rule a file or family; `balancer` puts them to work.

Every module in this folder is imported, so that a new file with a registered rule is found without another
edit.
"""

from importlib import import_module
from pkgutil import iter_modules

for _module in iter_modules(__path__):
    import_module(f"{__name__}.{_module.name}")
