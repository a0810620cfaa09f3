"""From DATASETS_NAME to data sets."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from data_files import make_folder, make_got10k

from mtltrack.core.errors import ConfigError, DataError
from mtltrack.data import build_dataset, build_datasets
from mtltrack.data.pack import pack_folder

Made = Callable[[str], Path]


@pytest.fixture
def local(tmp_path: Path, made: Made, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A local.yaml that names the tiny data sets."""
    got10k = make_got10k(tmp_path / "got10k")
    for part in ("train", "val"):
        (got10k / f"got10k_vot_{part}_split.txt").write_text("0\n2\n")
    pack_folder(got10k, tmp_path / "got10k_lmdb")
    for part in ("train", "val"):  # the lists may lie beside the LMDB's file
        (tmp_path / "got10k_lmdb" / f"got10k_vot_{part}_split.txt").write_text("1\n")
    roots = {name: str(made(name)) for name in ("lasot", "trackingnet", "coco", "vid")}
    roots |= {"got10k": str(got10k), "got10k_lmdb": str(tmp_path / "got10k_lmdb")}
    path = tmp_path / "local.yaml"
    path.write_text(yaml.safe_dump({"workspace_dir": str(tmp_path), "roots": roots}))
    monkeypatch.setenv("MTLTRACK_LOCAL", str(path))
    return path


@pytest.mark.parametrize(
    ("name", "sequences"),
    [
        ("LASOT", 1),
        ("GOT10K_vottrain", 2),
        ("GOT10K_votval", 2),
        ("GOT10K_train_full", 3),
        ("GOT10K_official_val", 3),
        ("COCO17", 3),
        ("VID", 2),
        ("TRACKINGNET", 2),
    ],
)
def test_published_names(name: str, sequences: int, local: Path) -> None:
    assert build_dataset(name).num_sequences == sequences


def test_lmdb_roots_are_other_keys(local: Path) -> None:
    assert build_dataset("GOT10K_votval", use_lmdb=True).sequence_name(0) == "GOT-10k_Train_000002"
    with pytest.raises(DataError, match=r"lasot_lmdb.*roots\.lasot_lmdb"):
        build_dataset("LASOT", use_lmdb=True)


def test_a_missing_root_tells_what_to_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "local.yaml").write_text(yaml.safe_dump({"data_dir": str(tmp_path / "none")}))
    monkeypatch.setenv("MTLTRACK_LOCAL", str(tmp_path / "local.yaml"))
    with pytest.raises(DataError, match=r"'lasot' .* is not a folder\. .*roots\.lasot"):
        build_dataset("LASOT")


def test_synthetic_needs_no_root() -> None:
    assert build_dataset("SYNTHETIC").num_sequences > 0


def test_typed_entries_take_upper_case_arguments_and_variables(
    made: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_VIDEOS", str(made("folder").parent))
    entry = {
        "TYPE": "FolderSequences",
        "ROOT": f"${{MY_VIDEOS}}/{made('folder').name}",
        "RANGES": {"tram": [1, 8]},
    }
    assert build_dataset(entry).sequence(0).num_frames == 8


def test_label_folder_of_an_entry(made: Made, tmp_path: Path) -> None:
    entry = {"TYPE": "FolderSequences", "ROOT": str(made("folder")), "CLS_ANN_DIR": str(tmp_path)}
    with pytest.raises(DataError, match="no labels for any of the 2 sequences"):
        build_dataset(entry)


def test_label_folder_of_the_list_joins_where_it_fits(made: Made, tmp_path: Path) -> None:
    folder = {"TYPE": "FolderSequences", "ROOT": str(made("folder"))}
    entries = ["SYNTHETIC", folder]
    with pytest.raises(DataError, match=r"has labels for no sequence of SyntheticSequences, folder"):
        build_datasets(entries, cls_ann_dir=tmp_path)
    (tmp_path / "tram").mkdir()
    (tmp_path / "tram" / "tram.jsonl").write_text("")
    assert [type(dataset).__name__ for dataset in build_datasets(entries, cls_ann_dir=tmp_path)] == [
        "SyntheticSequences",
        "LabelledSequences",
    ]
    assert len(build_datasets(entries)) == 2


def test_label_folder_of_the_list_that_fits_two_data_sets(made: Made, tmp_path: Path) -> None:
    other = make_folder(tmp_path / "other", ("tram", "ship"))
    labels = tmp_path / "labels"
    (labels / "tram").mkdir(parents=True)
    (labels / "tram" / "tram.jsonl").write_text("")
    entries = [{"TYPE": "FolderSequences", "ROOT": str(root)} for root in (made("folder"), other)]
    with pytest.raises(
        DataError,
        match=r"labels for 'tram', a sequence of both entry 1 and entry 2 \(folder\).*"
        r"1 such names\. Write CLS_ANN_DIR into",
    ):
        build_datasets(entries, cls_ann_dir=labels)
    own = {**entries[0], "CLS_ANN_DIR": str(labels)}
    assert [type(dataset).__name__ for dataset in build_datasets([own, entries[1]])] == [
        "LabelledSequences",
        "FolderSequences",
    ]
    ship = {**entries[1], "RANGES": {"ship": [1, 9]}}
    only_first = build_datasets([entries[0], ship], cls_ann_dir=labels)
    assert [type(dataset).__name__ for dataset in only_first] == ["LabelledSequences", "FolderSequences"]


def test_messages_name_the_nearest() -> None:
    with pytest.raises(
        ConfigError, match=r"unknown data set 'LASOTT'\. Did you mean 'LASOT'\? Known: LASOT, GOT10K"
    ):
        build_dataset("LASOTT")
    with pytest.raises(ConfigError, match=r"an entry that is a mapping needs TYPE"):
        build_dataset({"ROOT": "x"})
    with pytest.raises(
        ConfigError,
        match=r"FolderSequences has no argument ROT\. Did you mean 'ROOT'\? It takes ROOT, RANGES",
    ):
        build_dataset({"TYPE": "FolderSequences", "ROT": "x"})
    with pytest.raises(
        ConfigError, match=r"FolderSequences: .*missing 1 required positional argument: 'root'"
    ):
        build_dataset({"TYPE": "FolderSequences"})
