"""LMDBs and folders under bad conditions: several workers, forks, full disks, kills, read-only places."""

from __future__ import annotations

import multiprocessing
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from tools.drill.row import Row

from mtltrack.core.errors import ConfigError, DataError
from mtltrack.core.paths import need_writable
from mtltrack.data.pack import pack_folder, verify_lmdb
from mtltrack.data.stores import DATA_FILE, LmdbStore, Store

READ_ONLY = (
    "unshare -rm sh -c 'mount -t tmpfs tmpfs {place} && cp -r {lmdb} {place}/lmdb && "
    "mount -o remount,ro {place} && {python} -m tools.drill.storage {place}/lmdb'"
)


def write_files(folder: Path, count: int, size: int) -> Path:
    """Write files of random bytes."""
    chance = random.Random(0)
    for number in range(count):
        path = folder / f"s{number % 7}" / f"{number:05d}.bin"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(chance.randbytes(size + number))
    return folder


def digest(store: Store) -> int:
    """Read all values and return a number that tells them apart."""
    return hash(tuple(store.read(f"{s}/{name}") for s in store.list() for name in store.list(s)))


def _digest_into(store: Store, queue: multiprocessing.Queue[int]) -> None:
    queue.put(digest(store))


def shared(path: Path, processes: int) -> Row:
    """Read an LMDB that is open already in processes that are forked from this one, all at once."""
    store = LmdbStore(path)
    wanted = digest(store)  # opens it here
    context = multiprocessing.get_context("fork")
    queue: multiprocessing.Queue[int] = context.Queue()
    children = [context.Process(target=_digest_into, args=(store, queue)) for _ in range(processes)]
    for child in children:
        child.start()
    found = [queue.get(timeout=120) for _ in children]
    for child in children:
        child.join()
    equal = sum(value == wanted for value in [*found, digest(store)])
    return Row(
        f"one LMDB read by {processes} processes, opened before they were forked",
        "the same bytes in all",
        f"{equal} of {processes + 1} the same",
        equal == processes + 1,
    )


def full_map(files: Path, folder: Path) -> Row:
    """Pack into an LMDB whose map is far too small at first."""
    pack_folder(files, folder / "grown", first_map_size=65536)
    count = verify_lmdb(files, folder / "grown").files
    size = (folder / "grown" / DATA_FILE).stat().st_size
    return Row(
        "an LMDB's map is full while packing (64 KiB at first)",
        "it grows, all values equal",
        f"{count} values equal, {size / 1e6:.1f} MB",
        size > 65536,
    )


def full_disk(files: Path, folder: Path) -> Row:
    """Pack where files may not grow beyond a third of what is needed, then again with room."""
    target = folder / "full"
    limit = sum(path.stat().st_size for path in files.rglob("*.bin")) // 3

    def no_room() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # an error instead, as a full disk gives
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    command = [sys.executable, str(Path(__file__).parents[1] / "make_lmdb.py"), str(files), str(target)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, preexec_fn=no_room)
    nothing = not target.exists()
    said = "run it again to go on" in done.stderr
    pack_folder(files, target, verify_all=True)
    return Row(
        "no room left while packing, then room again",
        "an error, nothing at the target; going on makes all values equal",
        f"status {done.returncode}, {'nothing' if nothing else 'something'} at the target, then all equal",
        done.returncode == 1 and nothing and said,
    )


def interrupted(files: Path, folder: Path, kills: int) -> Row:
    """Kill packing at random moments, each time going on, and look at the target."""
    target, chance = folder / "killed", random.Random(1)
    command = [sys.executable, "-m", "tools.drill.storage", str(files), str(target)]
    half = killed = tries = 0
    longest = 0.1  # seconds; less after each time that packing was over before
    while killed < kills and tries < 50 * kills:
        tries += 1
        process = subprocess.Popen(command, stdout=subprocess.PIPE)
        assert process.stdout is not None
        process.stdout.readline()  # it begins
        time.sleep(chance.uniform(0.0, longest))
        process.kill()
        if process.wait() == -signal.SIGKILL:
            killed += 1
        else:
            longest *= 0.7
        if target.exists():
            half += not _is_whole(files, target)
            shutil.rmtree(target)
    pack_folder(files, target, verify_all=True)
    return Row(
        f"packing killed {kills} times (SIGKILL) and gone on with",
        "never half of it at the target, all values equal in the end",
        f"{killed} killed at work, {half} halves, then all equal",
        half == 0 and killed == kills,
    )


def _is_whole(files: Path, target: Path) -> bool:
    try:
        verify_lmdb(files, target)
    except DataError:
        return False
    return True


def cut_file(path: Path, folder: Path) -> Row:
    """Open a copy of an LMDB that lacks its end."""
    copy = folder / "cut"
    shutil.copytree(path, copy)
    data = copy / DATA_FILE
    os.truncate(data, data.stat().st_size // 2)
    try:
        digest(LmdbStore(copy))
        found = "no error"
    except DataError as error:
        found = str(error).partition(": ")[2][:40]
    wanted = "an error that says so"
    return Row("half of an LMDB's file", wanted, found, found.startswith("the LMDB is cut off"))


def read_only(path: Path, folder: Path) -> Iterator[Row]:
    """Read an LMDB from a file system that is mounted read-only, and try to write results there."""
    place = folder / "mounted"
    place.mkdir()
    text = READ_ONLY.format(place=place, lmdb=path, python=sys.executable)
    done = subprocess.run(["sh", "-c", text], capture_output=True, text=True, check=False)
    if "unshare" in done.stderr or "mount:" in done.stderr:
        return  # this system doesn't let its users mount
    number, _, message = done.stdout.partition("\n")
    files = sum(len(names) for _, _, names in os.walk(path))
    yield Row(
        "an LMDB on a read-only file system",
        "it can be read",
        f"{number or 0} values read ({files} files)",
        number.isdigit() and int(number) > 0,
    )
    yield Row(
        "results on a read-only file system",
        "an error before training begins",
        message.strip()[:90] or "no error",
        "--save_dir: nothing can be written to" in message,
    )


def run(short: bool, folder: Path) -> list[Row]:
    """Break storage in every way; the short drill with fewer files and kills."""
    files = write_files(folder / "files", 200 if short else 2000, 4000 if short else 20000)
    pack_folder(files, folder / "lmdb")
    return [
        shared(folder / "lmdb", 2 if short else 8),
        full_map(files, folder),
        full_disk(files, folder),
        interrupted(files, folder, 2 if short else 20),
        cut_file(folder / "lmdb", folder),
        *read_only(folder / "lmdb", folder),
    ]


def main(arguments: list[str]) -> None:
    """Pack a folder, or read an LMDB and try to write beside it: what the drill runs in other processes."""
    if len(arguments) == 2:
        print("begin", flush=True)
        pack_folder(*arguments)
        return
    store = LmdbStore(arguments[0])
    keys = [f"{s}/{name}" for s in store.list() for name in store.list(s)]
    print(sum(len(store.read(key)) > 0 for key in keys), flush=True)
    try:
        need_writable(Path(arguments[0]).parent / "output", "--save_dir")
    except ConfigError as error:
        print(error)


if __name__ == "__main__":
    main(sys.argv[1:])
