"""The benchmarks that `--dataset` knows by name; each module documents its layout."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from mtltrack.core.errors import DataError
from mtltrack.core.paths import dataset_root
from mtltrack.evaluation.benchmarks import (
    got10k,
    itb,
    lasot,
    lasot_extension_subset,
    nfs,
    otb,
    tc128,
    tnl2k,
    trackingnet,
    uav,
    vot18,
    vot22,
)
from mtltrack.evaluation.benchmarks.sequence import Benchmark

Loader = Callable[[Path], Benchmark]

LOADERS: dict[str, Loader] = {
    "otb": otb.load,
    "nfs": nfs.load,
    "uav": uav.load,
    "tc128": tc128.load,
    "tc128ce": tc128.load_ce,
    "trackingnet": trackingnet.load,
    "got10k_test": got10k.load_test,
    "got10k_val": got10k.load_val,
    "got10k_ltrval": got10k.load_ltrval,
    "lasot": lasot.load,
    "lasot_lmdb": lasot.load_lmdb,
    "lasot_extension_subset": lasot_extension_subset.load,
    "vot18": vot18.load,
    "vot22": vot22.load,
    "itb": itb.load,
    "tnl2k": tnl2k.load,
}

LAYOUTS: dict[str, str] = {
    "otb": otb.LAYOUT,
    "nfs": nfs.LAYOUT,
    "uav": uav.LAYOUT,
    "tc128": tc128.LAYOUT,
    "tc128ce": tc128.LAYOUT,
    "trackingnet": trackingnet.LAYOUT,
    "got10k_test": got10k.LAYOUTS["test"],
    "got10k_val": got10k.LAYOUTS["val"],
    "got10k_ltrval": got10k.LAYOUTS["ltrval"],
    "lasot": lasot.LAYOUT,
    "lasot_lmdb": lasot.LMDB_LAYOUT,
    "lasot_extension_subset": lasot_extension_subset.LAYOUT,
    "vot18": vot18.LAYOUT,
    "vot22": vot22.LAYOUT,
    "itb": itb.LAYOUT,
    "tnl2k": tnl2k.LAYOUT,
}


def load_known(name: str) -> Benchmark:
    """Return a benchmark by its name.

    Raises:
        DataError: its data isn't there; the message says what is expected where.
    """
    try:
        root = dataset_root(name)
    except DataError as error:
        raise DataError(f"{error} Expected below it: {LAYOUTS[name]}.") from error
    return LOADERS[name](root)
