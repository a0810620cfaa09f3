"""Names and places of a run's checkpoint files: which is the newest, which may go, which are moved aside."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from mtltrack.core.errors import CheckpointError

RESUME_SUFFIX = ".resume.pt"
WEIGHTS_SUFFIX = ".pth.tar"
EARLIER = "earlier"
_WEIGHTS = re.compile(r"_ep(\d+)\.pth\.tar$")
_RESUME = re.compile(r"_ep(\d+)(?:_step(\d+))?\.resume\.pt$")


@dataclass(frozen=True)
class CheckpointFolder:
    """Names of a run's checkpoint files.

    `<NetType>_ep0003.pth.tar`: the weights after epoch 3, for everyone. `<NetType>_ep0003.resume.pt`: what
    resuming needs beside them. `<NetType>_ep0003_step00000450.resume.pt`: all that resuming needs after step
    450 of the run, when 3 epochs were over.

    Attributes:
        folder: `<save_dir>/checkpoints/train/<script>/<config>`.
        net_type: name of the model's kind, such as HIPTrack.
    """

    folder: Path
    net_type: str

    @classmethod
    def of_run(cls, save_dir: str | Path, script: str, config: str, net_type: str) -> CheckpointFolder:
        return cls(Path(save_dir) / "checkpoints" / "train" / script / config, net_type)

    def weights_file(self, epoch: int) -> Path:
        return self.folder / f"{self.net_type}_ep{epoch:04d}{WEIGHTS_SUFFIX}"

    def average_file(self, epoch: int) -> Path:
        """Return the file of the averaged weights (TRAIN.EMA)."""
        return self.folder / f"{self.net_type}_ep{epoch:04d}_ema{WEIGHTS_SUFFIX}"

    def best_file(self) -> Path:
        """Return the file of the weights that did best in validation (TRAIN.SAVE_BEST)."""
        return self.folder / f"{self.net_type}_best{WEIGHTS_SUFFIX}"

    def resume_file(self, epoch: int, step: int | None = None) -> Path:
        """Return the file that belongs to an epoch's weights, or with `step` the one that stands alone."""
        inside = "" if step is None else f"_step{step:08d}"
        return self.folder / f"{self.net_type}_ep{epoch:04d}{inside}{RESUME_SUFFIX}"

    def resume_files(self) -> list[Path]:
        """Return the resume files that exist, the oldest state first."""
        found = self.folder.glob(f"{self.net_type}_ep*{RESUME_SUFFIX}")
        return sorted((file for file in found if _RESUME.search(file.name)), key=_age)

    def weights_files(self) -> list[Path]:
        """Return the epochs' weights that exist, the oldest first."""
        return sorted(_epoch_files(self.folder.glob(f"{self.net_type}_ep*{WEIGHTS_SUFFIX}")), key=epoch_of)

    def unfinished(self) -> list[Path]:
        """Return what a process that was killed while writing left behind."""
        return sorted(self.folder.glob(f".{self.net_type}_*.tmp"))


def _age(path: Path) -> tuple[int, int]:
    found = _RESUME.search(path.name)
    assert found is not None
    return int(found.group(1)), int(found.group(2) or 0)


def _epoch_files(files: Iterable[Path]) -> list[Path]:
    return [file for file in files if _WEIGHTS.search(file.name)]


def epoch_of(path: Path) -> int:
    """Return the epoch in the name of an epoch's weights or resume file.

    Raises:
        CheckpointError: the name has none.
    """
    found = _WEIGHTS.search(path.name) or _RESUME.search(path.name)
    if found is None:
        raise CheckpointError(
            f"{path}: the name doesn't end in _ep<number>{WEIGHTS_SUFFIX} or _ep<number>{RESUME_SUFFIX}"
        )
    return int(found.group(1))


def newest_weights(folder: Path) -> Path:
    """Return the weights file with the highest epoch in `folder`.

    Raises:
        CheckpointError: there is none.
    """
    files = sorted(_epoch_files(folder.glob(f"*{WEIGHTS_SUFFIX}")), key=epoch_of)
    if not files:
        raise CheckpointError(
            f"no checkpoint (*_ep<number>{WEIGHTS_SUFFIX}) in {folder}; train that configuration first"
        )
    return files[-1]


def find_resume(folder: CheckpointFolder, choice: str) -> list[Path]:
    """Return the resume files that `--resume` means, the one to try first first; none to start afresh.

    Args:
        folder: the run's files.
        choice: "never", "auto" (those of this run, the newest first) or the path of a resume file or of its
            checkpoint.

    Raises:
        CheckpointError: the named file doesn't exist or has nothing to resume from.
    """
    if choice == "never":
        return []
    if choice == "auto":
        return folder.resume_files()[::-1]
    path = Path(choice).expanduser()
    if path.name.endswith(WEIGHTS_SUFFIX):
        path = path.with_name(path.name.removesuffix(WEIGHTS_SUFFIX) + RESUME_SUFFIX)
    if not path.is_file():
        there = ", ".join(file.name for file in folder.resume_files()) or "none"
        raise CheckpointError(
            f"--resume {choice}: {path} doesn't exist. Only the newest states of a run can be resumed "
            f"(TRAIN.KEEP_RESUME); in {folder.folder}: {there}. To start from weights alone, name them in "
            "MODEL.PRETRAIN_FILE."
        )
    return [path]


def prune(folder: CheckpointFolder, keep_resume: int, keep_weights: int) -> None:
    """Delete what is older than the newest files.

    Args:
        folder: the run's files.
        keep_resume: resume files that stay.
        keep_weights: epochs whose weights stay, 0 for all; those that a resume file needs stay in any case.
    """
    resume = folder.resume_files()
    for old in resume[:-keep_resume]:
        old.unlink(missing_ok=True)
    needed = {epoch_of(file) for file in resume[-keep_resume:] if file == folder.resume_file(epoch_of(file))}
    for old in folder.weights_files()[:-keep_weights] if keep_weights else []:
        if epoch_of(old) not in needed:
            old.unlink(missing_ok=True)
            folder.average_file(epoch_of(old)).unlink(missing_ok=True)


def set_aside(folder: CheckpointFolder) -> Path | None:
    """Move the checkpoints of an earlier run to `<folder>/earlier/<date>`, out of the way of a new run's.

    Left where they are, those of higher epochs would be taken for the new run's newest.

    Returns:
        Where they lie now, None if there were none.
    """
    best = [folder.best_file()] if folder.best_file().exists() else []
    return _move(folder, [*folder.resume_files(), *_with_averages(folder, folder.weights_files()), *best])


def set_newer_aside(folder: CheckpointFolder, path: Path) -> Path | None:
    """Move what is newer than the state `path`, from which a run goes on, as `set_aside` does.

    It is damaged, or belongs to a future that will not be: left there, its states would be resumed next time,
    its weights taken for the run's newest, and the good files deleted as the older ones. All that is here is
    newer than a state from another folder; of one that was renamed nobody knows, and only states are moved.
    """
    states, weights = folder.resume_files(), folder.weights_files()
    if path.parent.resolve() == folder.folder.resolve():
        known = _RESUME.search(path.name) is not None
        states = [file for file in states if not known or _age(file) > _age(path)]
        weights = [file for file in weights if known and epoch_of(file) > epoch_of(path)]
    if not states:  # weights alone were written just before a crash: the run will write them again
        return None
    return _move(folder, [*states, *_with_averages(folder, weights)])


def _with_averages(folder: CheckpointFolder, weights: list[Path]) -> list[Path]:
    averages = [folder.average_file(epoch_of(file)) for file in weights]
    return [*weights, *(file for file in averages if file.exists())]


def _move(folder: CheckpointFolder, files: list[Path]) -> Path | None:
    """Move files, resume files first: one without its weights would be an error, weights alone are none."""
    if not files:
        return None
    now = datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
    aside = folder.folder / EARLIER / now
    count = 1
    while aside.exists():
        count += 1
        aside = folder.folder / EARLIER / f"{now}_{count}"
    aside.mkdir(parents=True)
    for file in files:
        file.replace(aside / file.name)
    return aside
