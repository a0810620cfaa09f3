"""Folders and LMDB files behind one interface."""

from __future__ import annotations

import multiprocessing
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from mtltrack.core.errors import DataError
from mtltrack.data.images import decode_image
from mtltrack.data.pack import pack_folder
from mtltrack.data.stores import FolderStore, LmdbStore, Store, open_store

FILES = {
    "list.txt": b"a\n",
    "img/2.jpg": b"two",
    "img/10.jpg": b"ten",
    "img/sub/x.txt": b"x",
    "imgs/1.jpg": b"",
    "z": b"z",
}


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Store]:
    root = tmp_path_factory.mktemp("store")
    for key, value in FILES.items():
        path = root / "files" / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(value)
    pack_folder(root / "files", root / "packed")
    return {"folder": open_store(root / "files"), "lmdb": open_store(root / "packed")}


@pytest.mark.parametrize("kind", ["folder", "lmdb"])
def test_reads_lists_and_knows_what_exists(kind: str, stores: dict[str, Store]) -> None:
    store = stores[kind]
    assert {key: store.read(key) for key in FILES} == FILES
    assert store.list() == ["img", "imgs", "list.txt", "z"]
    assert store.list("img") == store.list("img/") == ["2.jpg", "10.jpg", "sub"]  # by number
    assert store.list("img/sub") == ["x.txt"] and store.list("nothing") == []
    assert store.exists("img/2.jpg") and not store.exists("img") and not store.exists("img/3.jpg")


def test_missing_things_are_named(stores: dict[str, Store], tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"files/img/3\.jpg: can't be read \(No such file.*Restore the file"):
        stores["folder"].read("img/3.jpg")
    with pytest.raises(
        DataError, match=r"key 'img/3\.jpg' of the LMDB .*packed: doesn't exist.*make_lmdb\.py"
    ):
        stores["lmdb"].read("img/3.jpg")
    with pytest.raises(DataError, match=r"the data folder .*gone doesn't exist"):
        FolderStore(tmp_path / "gone")
    with pytest.raises(DataError, match=r"no LMDB at .*gone.*python tools/make_lmdb\.py"):
        LmdbStore(tmp_path / "gone")


def read_in_child(store: Store, key: str, queue: multiprocessing.Queue[bytes]) -> None:
    queue.put(store.read(key))


@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
def test_an_open_lmdb_survives_a_fork_and_pickling(stores: dict[str, Store]) -> None:
    store = stores["lmdb"]
    assert store.read("z") == b"z"
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    child = context.Process(target=read_in_child, args=(store, "img/10.jpg", queue))
    child.start()
    assert queue.get(timeout=30) == b"ten"
    child.join()
    assert pickle.loads(pickle.dumps(store)).read("img/2.jpg") == b"two"


def test_images_are_rgb_and_bad_ones_are_named(made: Callable[[str], Path]) -> None:
    data = (made("folder") / "bike" / "img" / "0001.jpg").read_bytes()
    image = decode_image(data, "0001.jpg")
    assert image.shape == (48, 64, 3) and image.dtype == np.uint8
    red, _, blue = image[15, 14].astype(int)  # the target was written as BGR (40, 120, 220)
    assert red > 180 and blue < 80
    with pytest.raises(DataError, match=r"a/b\.jpg: the image can't be decoded \(4 bytes\)\. Fetch"):
        decode_image(b"oops", "a/b.jpg")
    with pytest.raises(DataError, match=r"a/b\.jpg: the image can't be decoded \(0 bytes\)"):
        decode_image(b"", "a/b.jpg")
    with pytest.raises(DataError, match=r"a/b\.jpg: the image is cut off"):
        decode_image(data[: len(data) // 2], "a/b.jpg")
