"""What a folder of results was made with: `run.json` beside the result files.

It keeps results of one checkpoint from being taken for those of another, and tells the analysis which data
was tested.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from mtltrack.core.errors import DataError
from mtltrack.evaluation.benchmarks.sequence import FrameRanges
from mtltrack.evaluation.results import ResultFolder, write_text

FILE_NAME = "run.json"


@dataclass
class Provenance:
    """How results were made.

    Attributes:
        checkpoint: path of the weights.
        sha256: of the weights file.
        config: the parts of the configuration that decide results.
        datasets: `--dataset` as given (folders as absolute paths) -> {"frames": {...}, "one_based": bool}.
    """

    checkpoint: str
    sha256: str
    config: dict[str, Any] = field(default_factory=dict)
    datasets: dict[str, dict[str, Any]] = field(default_factory=dict)

    @classmethod
    def of(cls, checkpoint: Path, config: dict[str, Any]) -> Provenance:
        """Describe a checkpoint (its digest is computed) and a configuration."""
        with checkpoint.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256") if hasattr(hashlib, "file_digest") else _digest(file)
        # through JSON, so that it compares equal to what is read back
        return cls(str(checkpoint.resolve()), digest.hexdigest(), json.loads(json.dumps(config, default=str)))

    def same_run(self, other: Provenance) -> bool:
        """Whether weights and configuration are the same (the file may have moved)."""
        return self.sha256 == other.sha256 and self.config == other.config

    def ranges(self, dataset: str) -> FrameRanges:
        """Return the frame ranges that a data set was tested with."""
        frames = self.datasets.get(dataset, {}).get("frames", {})
        return {name: (int(first), int(last)) for name, (first, last) in frames.items()}

    def save(self, folder: ResultFolder) -> None:
        """Write it beside the results."""
        write_text(folder.path / FILE_NAME, json.dumps(asdict(self), indent=2) + "\n")


def _digest(file: Any) -> Any:
    digest = hashlib.sha256()
    while block := file.read(1 << 20):
        digest.update(block)
    return digest


def load_provenance(folder: ResultFolder) -> Provenance | None:
    """Return what the results of a folder were made with; None when it doesn't say (results of other "
    "programs)."""
    path = folder.path / FILE_NAME
    if not path.is_file():
        return None
    try:
        return Provenance(**json.loads(path.read_text(encoding="utf-8")))
    except (json.JSONDecodeError, TypeError) as error:
        raise DataError(
            f"'{path}' isn't a description of a run ({error}); remove it, or the results"
        ) from error


def claim(folder: ResultFolder, run: Provenance, sequences: list[str], *, force: bool) -> None:
    """Mark a folder as holding this run's results.

    Raises:
        DataError: it holds results of another checkpoint or configuration for some of the sequences, and
            `force` is off.
    """
    before = load_provenance(folder)
    if before is not None and not before.same_run(run):
        there = [name for name in sequences if folder.boxes(name).is_file()]
        if there and not force:
            what = "another configuration of" if before.sha256 == run.sha256 else "the checkpoint"
            raise DataError(
                f"'{folder.path}' holds results ({', '.join(there[:5])}{', ...' if len(there) > 5 else ''}) "
                "made with "
                f"{what} {before.checkpoint}. Keep them by --runid N for this run, or overwrite them by "
                "--force"
            )
    elif before is not None:
        run.datasets = {**before.datasets, **run.datasets}
    run.save(folder)
