"""Checkpoints that are damaged, that are traps, and that don't fit on the disk."""

from __future__ import annotations

import os
import random
import resource
import subprocess
from collections.abc import Callable
from pathlib import Path

import torch
from tools.drill.children import in_child, wait_for
from tools.drill.hostile import contents, ways
from tools.drill.resume import NET, Run, difference, finish, forked, told_when_writing
from tools.drill.row import Row

from mtltrack.core.errors import CheckpointError
from mtltrack.models.weights import read_weights_file
from mtltrack.training.checkpoint import load_newest, load_resume, save_resume, write_atomically
from mtltrack.training.files import CheckpointFolder, find_resume


def refuses(read: Callable[[Path], object], path: Path) -> bool:
    """Tell whether reading a file ends with the error that is meant for it."""
    try:
        read(path)
    except CheckpointError:
        return True
    return False


def damaged(folder: Path, flips: int, cuts: int, chance: random.Random) -> list[Row]:
    """Flip single bits of a resume file and of a weights file, and cut them short."""
    folder.mkdir(parents=True, exist_ok=True)
    state, weights = folder / "Tiny_ep0001_step00000001.resume.pt", folder / "Tiny_ep0001.pth.tar"
    net = {"net": {"head.weight": torch.arange(500.0)}, "config": {}, "epoch": 1}
    save_resume(state, {"position": {"step": 1}}, net)
    write_atomically(net, weights)
    readers: dict[Path, Callable[[Path], object]] = {state: load_resume, weights: read_weights_file}
    seen, cut = 0, 0
    for path, read in readers.items():
        whole = path.read_bytes()
        for bit in chance.sample(range(8 * len(whole)), flips // 2):
            changed = bytearray(whole)
            changed[bit // 8] ^= 1 << bit % 8
            path.write_bytes(changed)
            seen += refuses(read, path)
        for length in chance.sample(range(len(whole)), cuts // 2):
            path.write_bytes(whole[:length])
            cut += refuses(read, path)
        path.write_bytes(whole)
        read(path)
    return [
        Row(f"{flips} single flipped bits", "all refused", f"{seen} refused", seen == flips),
        Row(f"{cuts} truncations", "all refused", f"{cut} refused", cut == cuts),
    ]


def remove(trace: Path) -> bool:
    """Remove a trace and return whether there was one."""
    if trace.is_dir():
        trace.rmdir()
    elif trace.exists() or trace.is_symlink():
        trace.unlink()
    else:
        return False
    return True


def traps(folder: Path) -> Row:
    """Read files that try to run something, by every reader of files, in both of torch's formats."""
    folder.mkdir(parents=True, exist_ok=True)
    trace, script = folder / "trace", folder / "script.py"
    script.write_text(f"open({str(trace)!r}, 'w')", encoding="utf-8")
    path = folder / "Tiny_ep0001_step00000001.resume.pt"
    ran, read, calls = [], 0, ways(trace, script)
    for name, call in calls.items():
        for content in contents(call):
            for zipped in (True, False):
                torch.save(content, path, _use_new_zipfile_serialization=zipped)
                for reader in (load_resume, read_weights_file):
                    refuses(reader, path)
                    read += 1
                    if remove(trace):
                        ran.append(name)
    found = f"{len(set(ran))} of {len(calls)} ran something, in {read} readings"
    return Row(f"{len(calls)} malicious pickles", "none runs anything", found + " ".join(["", *ran]), not ran)


# ------------------------------------------------------------------------------------------------ full disk


def train_with(run: Run, output: Path, before_write: Callable[[int], None]) -> int:
    """Train in a child, which calls `before_write(number)` before each checkpoint; return its status."""

    def work() -> int:
        descriptor = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(descriptor, 2)
        written = 0

        def tell() -> None:
            nonlocal written
            written += 1
            before_write(written)

        with told_when_writing(tell):
            return run.train()

    return wait_for(in_child(work))


def full_disk(folder: Path) -> Row:
    """Let the disk be full in the middle of a training, then make room and go on."""
    check, how = "disk full in the middle of a training", "no file may pass 100 kB (RLIMIT_FSIZE)"
    reference, run = Run(folder / "enough", 0), Run(folder / "disk" / "full", 0)
    finish(reference)
    disk = folder / "disk"
    disk.mkdir()
    size = sum(file.stat().st_size for file in reference.checkpoints.iterdir()) // 2
    mounted = _mount(disk, size)
    try:
        if mounted:
            how = f"a file system of {size // 1024} kB"
        status = train_with(
            run, folder / "errors.txt", lambda number: None if mounted or number < 9 else _limit(100_000)
        )
        rest = sorted(run.checkpoints.glob(".*"))
        files = CheckpointFolder(run.checkpoints, NET)
        found = load_newest(find_resume(files, "auto"), lambda text: None)  # noqa: ARG005
        if mounted:
            subprocess.run(["mount", "-o", "remount,size=64m", str(disk)], check=True)
        ended = finish(run)
        equal = ended == 0 and not difference(reference.result(), run.result())
    finally:
        if mounted:
            subprocess.run(["umount", str(disk)], check=True)
    last = (folder / "errors.txt").read_text(encoding="utf-8").splitlines()[-1:] or [""]
    said = "can't be written" in last[0] and "The checkpoints before it are as they were" in last[0]
    return Row(
        f"{check}: {how}",
        "status not 0, a message, nothing left over; the checkpoint before loads and the run ends bit-equal",
        f"status {status}, {'told' if said else 'said: ' + last[0][:200]}, {len(rest)} files left over; "
        f"{found[0].name if found else 'nothing'} loads, "
        + ("bit-equal" if equal else f"not equal (status {ended})"),
        status not in (0, None) and said and not rest and found is not None and equal,
    )


def _mount(disk: Path, size: int) -> bool:
    """Mount a small file system in memory, where that is allowed."""
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(disk)]
    try:
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    except OSError:
        return False


def _limit(size: int) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))


def run(short: bool, folder: Path) -> list[Row]:
    """Make the drill.

    Args:
        short: 100 flips and 20 cuts in place of 1,000 and 100.
        folder: where files go.
    """
    chance = random.Random(0)
    flips, cuts = (100, 20) if short else (1000, 100)
    rows = [*damaged(folder / "damaged", flips, cuts, chance), traps(folder / "traps")]
    with forked(folder):
        return [*rows, full_disk(folder)]
