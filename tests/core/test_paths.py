"""Where things lie: local.yaml, variables in paths, data sets."""

from __future__ import annotations

from pathlib import Path

import pytest

from mtltrack.core import paths
from mtltrack.core.errors import ConfigError, DataError


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in an empty folder, as if installed: neither the checkout's local.yaml nor variables count."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(paths, "checkout_root", lambda: None)
    for name in ("MTLTRACK_LOCAL", "MTLTRACK_DATA", "MTLTRACK_REFERENCES"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def local(folder: Path, text: str) -> Path:
    path = folder / "local.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_defaults_without_a_file(elsewhere: Path) -> None:
    settings = paths.local_settings()
    assert settings.file is None
    assert settings.data_dir == elsewhere / "data"
    assert settings.save_dir == elsewhere / "output"
    assert settings.pretrained_dir == elsewhere / "pretrained_models"


def test_checkout_of_this_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    root = paths.checkout_root()
    assert root == Path(__file__).resolve().parents[2]


def test_relative_paths_count_from_the_file(elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DISK", "/disk")
    folder = elsewhere / "settings"
    folder.mkdir()
    text = "workspace_dir: work\ndata_dir: ${DISK}/sets\nroots: {lasot: LaSOT, otb: /otb, uav: null}\n"
    monkeypatch.setenv("MTLTRACK_LOCAL", str(local(folder, text)))
    settings = paths.local_settings()
    assert settings.workspace_dir == folder / "work"
    assert settings.save_dir == folder / "work" / "output"
    assert settings.data_dir == Path("/disk/sets")
    assert settings.roots == {"lasot": folder / "LaSOT", "otb": Path("/otb")}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "data_dri: x\n",
            r"local\.yaml: unknown key 'data_dri'\. Did you mean 'data_dir'\? Allowed: workspace_dir",
        ),
        (
            "roots: {lasott: x}\n",
            r"roots\.lasott: unknown data set\. Did you mean 'lasot'\? Allowed: lasot, got10k",
        ),
        ("roots: {lasot: 3}\n", r"roots\.lasot: found 3; allowed: a path\."),
        ("- x\n", r"local\.yaml must be a mapping of keys"),
        ("a: [\n", r"local\.yaml isn't valid YAML"),
    ],
)
def test_wrong_file(elsewhere: Path, text: str, message: str) -> None:
    local(elsewhere, text)
    with pytest.raises(ConfigError, match=message):
        paths.local_settings()


def test_variable_names_a_missing_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MTLTRACK_LOCAL", "/nowhere/local.yaml")
    with pytest.raises(
        ConfigError, match=r"MTLTRACK_LOCAL names /nowhere/local\.yaml, but there is no such file"
    ):
        paths.local_settings()


def test_root_by_name_then_below_data_dir_then_shared(elsewhere: Path) -> None:
    for name in ("data/lasot", "elsewhere/otb", "data/got10k"):
        (elsewhere / name).mkdir(parents=True)
    local(elsewhere, "roots: {otb: elsewhere/otb}\n")
    assert paths.dataset_root("lasot") == elsewhere / "data" / "lasot"
    assert paths.dataset_root("otb") == elsewhere / "elsewhere" / "otb"
    assert paths.dataset_root("got10k_test") == elsewhere / "data" / "got10k"


def test_shared_root(elsewhere: Path) -> None:
    (elsewhere / "got").mkdir()
    local(elsewhere, "roots: {got10k: got}\n")
    assert paths.dataset_root("got10k_val") == elsewhere / "got"


def test_missing_root_says_what_to_do(elsewhere: Path) -> None:
    with pytest.raises(DataError) as caught:
        paths.dataset_root("lasot")
    assert f"looked for at {elsewhere / 'data' / 'lasot'}" in str(caught.value)
    assert "There is no local.yaml: run `python tracking/create_default_local_file.py`" in str(caught.value)
    path = local(elsewhere, "roots: {lasot: /nowhere}\n")
    with pytest.raises(DataError, match=r"/nowhere, which is not a folder\. Edit roots\.lasot") as caught:
        paths.dataset_root("lasot")
    assert str(path) in str(caught.value)
    with pytest.raises(DataError, match=r"'lasoot' is not the key of a data set\. Did you mean 'lasot'\?"):
        paths.dataset_root("lasoot")


def test_every_named_data_set_has_a_root() -> None:
    known = {key for group in paths.known_roots().values() for key in group}
    tests = "otb nfs uav tc128 tc128ce trackingnet got10k_test got10k_val got10k_ltrval lasot lasot_lmdb"
    more = "lasot_extension_subset vot18 vot22 itb tnl2k"
    training = "got10k davis ccpd coco vid got10k_lmdb trackingnet_lmdb coco_lmdb vid_lmdb"
    assert set(f"{tests} {more} {training}".split()) == known


def test_expand_path(elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DISK", "/disk")
    assert paths.expand_path("${DISK}/a/$DISK") == Path("/disk/a//disk")
    assert paths.expand_path("~/a") == Path.home() / "a"
    assert paths.expand_path(Path("a")) == Path("a")
    with pytest.raises(
        ConfigError, match=r"the path '\$\{NO_SUCH\}/a' holds \$\{NO_SUCH\}, but the environment"
    ):
        paths.expand_path("${NO_SUCH}/a")


def test_test_data_has_a_default_place(elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert paths.test_data_root() == elsewhere.parent / "shared" / "data"
    assert paths.references_root() == elsewhere.parent / "shared" / "parity"
    assert paths.expand_path("${MTLTRACK_DATA}/sot") == elsewhere.parent / "shared" / "data" / "sot"
    monkeypatch.setenv("MTLTRACK_DATA", "/mine")
    assert paths.test_data_root() == Path("/mine")
    assert paths.expand_path("${MTLTRACK_DATA}/sot") == Path("/mine/sot")
