"""The tasks: head, loss terms, decoding and metrics of each, one file a task.

Every module in this folder is imported, so that a new file with a registered head is found without another
edit.
"""

from importlib import import_module
from pkgutil import iter_modules

for _module in iter_modules(__path__):
    import_module(f"{__name__}.{_module.name}")
