"""The digest inside a checkpoint: readable by torch and others, and no damage goes unseen."""

from __future__ import annotations

import hashlib
import random
import zipfile
from pathlib import Path

import pytest
import torch

from mtltrack.core.errors import CheckpointError
from mtltrack.core.seal import check_file, check_seal, seal


@pytest.fixture
def sealed(tmp_path: Path) -> Path:
    path = tmp_path / "sealed.pt"
    with path.open("w+b") as file:
        torch.save({"net": {"a": torch.arange(50.0)}}, file)
        seal(file)
    return path


def notices(path: Path) -> bool:
    """Tell whether a reader of a sealed file finds out that it is damaged."""
    try:
        sealed = check_seal(path)
        torch.load(path, weights_only=True)
    except Exception:  # a damaged file may fail in any way, as long as it fails
        return True
    return not sealed


def test_torch_and_zip_read_a_sealed_file_as_before(sealed):
    assert check_seal(sealed)
    assert torch.equal(torch.load(sealed, weights_only=True)["net"]["a"], torch.arange(50.0))
    assert torch.load(sealed, weights_only=True, mmap=True)["net"]["a"].sum() == 1225
    assert zipfile.ZipFile(sealed).testzip() is None
    moved = sealed.rename(sealed.with_name("elsewhere.pt"))
    assert check_seal(moved)


def test_a_file_saved_again_by_others_has_no_digest(sealed):
    torch.save(torch.load(sealed, weights_only=True), sealed)
    assert not check_seal(sealed)


def test_flipped_bits_and_truncations_are_all_seen(sealed):
    whole, chance = sealed.read_bytes(), random.Random(0)
    for _ in range(100):
        bit = chance.randrange(8 * len(whole))
        damaged = bytearray(whole)
        damaged[bit // 8] ^= 1 << bit % 8
        sealed.write_bytes(damaged)
        assert notices(sealed), f"bit {bit}"
    for bit in range(8 * (len(whole) - 102), 8 * len(whole)):  # the archive's last record and the digest
        damaged = bytearray(whole)
        damaged[bit // 8] ^= 1 << bit % 8
        sealed.write_bytes(damaged)
        with pytest.raises(CheckpointError, match="its bytes aren't those that were written"):
            check_seal(sealed)
    for length in [*range(len(whole) - 110, len(whole)), 0, 1, 30]:
        sealed.write_bytes(whole[:length])
        assert notices(sealed), f"{length} of {len(whole)} bytes"


def test_only_a_zip_without_a_comment_is_sealed(sealed):
    with sealed.open("r+b") as file, pytest.raises(ValueError, match="without a comment"):
        seal(file)


def test_one_reading_checks_a_file_and_takes_its_digest(sealed, tmp_path):
    foreign = tmp_path / "foreign.pth"
    foreign.write_bytes(b"abc")  # its digest stands in FIPS 180-2
    assert check_file(foreign).sha256 == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    content = sealed.read_bytes()
    checked = check_file(sealed)
    assert checked.sha256 == hashlib.sha256(content).hexdigest() and checked.still(sealed)
    sealed.write_bytes(content[:100] + b"?" + content[101:])
    assert not checked.still(sealed)
    with pytest.raises(CheckpointError, match="its bytes aren't those that were written"):
        check_file(sealed)
    with pytest.raises(CheckpointError, match=r"none.pt can't be read: No such file"):
        check_file(tmp_path / "none.pt")
