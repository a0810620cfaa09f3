"""Weights files that try to run something when they are read: twenty ways, each of which leaves a trace."""

from __future__ import annotations

import builtins
import functools
import importlib
import logging
import operator
import os
import pickle
import posix
import runpy
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

Call = tuple[Callable[..., Any], tuple[Any, ...]]


class Calls:
    """Pickles as a call of any function."""

    def __init__(self, call: Call) -> None:
        self.call = call

    def __reduce__(self) -> Call:
        return self.call


def ways(trace: Path, script: Path) -> dict[str, Call]:
    """Return twenty calls that make the file `trace`.

    Args:
        trace: doesn't exist yet.
        script: exists, and makes it when it is run.
    """
    path, shell = str(trace), f"touch {trace}"
    code = f"open({path!r}, 'w')"
    module = Calls((importlib.import_module, ("os",)))
    inner = pickle.dumps(Calls((os.system, (shell,))))
    return {
        "os.system": (os.system, (shell,)),
        "posix.system": (posix.system, (shell,)),
        "os.popen": (os.popen, (shell,)),
        "os.mkdir": (os.mkdir, (path,)),
        "os.symlink": (os.symlink, (str(script), path)),
        "subprocess.call": (subprocess.call, (["touch", path],)),
        "subprocess.Popen": (subprocess.Popen, (["touch", path],)),
        "eval": (builtins.eval, (code,)),
        "exec": (builtins.exec, (code,)),
        "open": (builtins.open, (path, "w")),
        "Path.touch": (Path.touch, (trace,)),
        "shutil.copy": (shutil.copy, (str(script), path)),
        "runpy.run_path": (runpy.run_path, (str(script),)),
        "pickle.loads": (pickle.loads, (inner,)),
        "operator.call": (operator.call, (os.system, shell)),
        "getattr and call": (operator.call, (Calls((getattr, (module, "system"))), shell)),
        "functools.reduce": (functools.reduce, (operator.call, [os.system, shell])),
        "import and call": (
            operator.methodcaller("system", shell),
            (Calls((importlib.import_module, ("os",))),),
        ),
        "torch.save": (torch.save, (1, path)),
        "logging.FileHandler": (logging.FileHandler, (path,)),
    }


def contents(call: Call) -> list[dict[Any, Any]]:
    """Return checkpoints with the call in three places."""
    evil = Calls(call)
    weights = {"head.weight": torch.ones(2)}
    return [
        {"net": weights, "config": {}, "settings": evil},
        {"net": {**weights, "head.bias": evil}, "config": {}},
        {"format": 5, "weights": {"net": weights}, "run": evil, "position": {}},
    ]
