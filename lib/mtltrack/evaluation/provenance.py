"""What result files were made from: `run.json` beside them, with a line for each sequence.

It keeps the results of one checkpoint, configuration, data set or range of frames from being taken for those
of another, and tells the analysis which frames of which data were tested.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from mtltrack.core.errors import DataError
from mtltrack.evaluation.benchmarks.sequence import FrameRanges, Sequence
from mtltrack.evaluation.results import ResultFolder, write_text

FILE_NAME = "run.json"
WHICH_WEIGHTS = "TEST.EPOCH "  # earlier versions noted it; the digest of the weights says more
_DIGITS = 16  # of a digest, as the key of a table


@dataclass(frozen=True)
class Origin:
    """What the results of one sequence were made from.

    Attributes:
        weights: key of the weights in `Records.weights`.
        config: key of the configuration in `Records.configs`.
        dataset: `--dataset` as given, a folder as its absolute path.
        frames: first and last frame, counted from 1, both included.
        one_based: the pixels of the ground truth count from 1, see `Sequence`.
    """

    weights: str
    config: str
    dataset: str
    frames: tuple[int, int]
    one_based: bool


@dataclass(frozen=True)
class Provenance:
    """What a run makes its results with; without arguments nothing is known but the frames.

    Attributes:
        checkpoint: path of the weights.
        sha256: of the weights file.
        config: the parts of the configuration that decide results.
        dataset: `--dataset` as given, a folder as its absolute path.
    """

    checkpoint: str = ""
    sha256: str = ""
    config: dict[str, Any] = field(default_factory=dict)
    dataset: str = ""

    @classmethod
    def of(cls, checkpoint: Path, sha256: str, config: dict[str, Any], dataset: str = "") -> Provenance:
        """Describe a checkpoint with its digest, a configuration and a data set."""
        # through JSON, so that it compares equal to what is read back
        plain = json.loads(json.dumps(config, default=str))
        return cls(str(checkpoint.resolve()), sha256, plain, dataset)

    @property
    def config_key(self) -> str:
        """Digest of the configuration, whatever the order of its keys."""
        return hashlib.sha256(json.dumps(self.config, sort_keys=True).encode()).hexdigest()[:_DIGITS]

    def origin(self, sequence: Sequence) -> Origin:
        """Return what the results of a sequence are made from in this run."""
        frames = (sequence.first_frame, sequence.first_frame + len(sequence) - 1)
        return Origin(
            self.sha256[:_DIGITS], self.config_key, self.dataset, frames, one_based=sequence.one_based
        )


@dataclass
class Records:
    """The content of `run.json`.

    Attributes:
        sequences: name -> what its results were made from.
        weights: key -> {"file": path, "sha256": digest}.
        configs: key -> the parts of the configuration that decide results.
    """

    sequences: dict[str, Origin] = field(default_factory=dict)
    weights: dict[str, dict[str, str]] = field(default_factory=dict)
    configs: dict[str, dict[str, Any]] = field(default_factory=dict)

    def enter(self, run: Provenance, sequence: Sequence) -> None:
        """Note that the results of a sequence are made by `run`; forget what no sequence refers to."""
        origin = self.sequences[sequence.name] = run.origin(sequence)
        self.weights[origin.weights] = {"file": run.checkpoint, "sha256": run.sha256}
        self.configs[origin.config] = run.config
        used = self.sequences.values()
        self.weights = {key: self.weights[key] for key in dict.fromkeys(item.weights for item in used)}
        self.configs = {key: self.configs[key] for key in dict.fromkeys(item.config for item in used)}

    def difference(self, run: Provenance, sequence: Sequence) -> str | None:
        """Say in what the results that are there differ from those that `run` would make; None: in nothing.

        The file of the weights may have moved.
        """
        there, wanted = self.sequences.get(sequence.name), run.origin(sequence)
        if there is None:
            return f"{FILE_NAME} doesn't say from what"
        if there.weights != wanted.weights:
            return f"with the weights {self.weights[there.weights]['file']}"
        if there.config != wanted.config:
            changes = config_changes(self.configs[there.config], run.config)
            changes = [text for text in changes if not text.startswith(WHICH_WEIGHTS)]
            more = f" and {len(changes) - 5} more" if len(changes) > 5 else ""
            if changes:
                return f"with another configuration: {'; '.join(changes[:5])}{more}"
        if there.dataset != wanted.dataset:
            return f"from the data set {there.dataset}"
        if there.frames != wanted.frames:
            return f"on the frames {there.frames[0]} to {there.frames[1]}"
        if there.one_based != wanted.one_based:
            return f"with pixels that count from {int(there.one_based)} (--zero-based)"
        return None

    def ranges(self, dataset: str) -> FrameRanges:
        """Return the frames, first and last, that each sequence of a data set was tested on."""
        return {name: item.frames for name, item in self.sequences.items() if item.dataset == dataset}

    def text(self) -> str:
        """Return it as JSON that people can read: one line a sequence."""
        lines = ",\n".join(
            f"    {json.dumps(name)}: {json.dumps(asdict(origin))}" for name, origin in self.sequences.items()
        )
        rest = json.dumps({"weights": self.weights, "configs": self.configs}, indent=2).removeprefix("{")
        return f'{{\n  "sequences": {{\n{lines}\n  }},{rest}\n'


def config_changes(there: Any, now: Any, path: str = "") -> list[str]:
    """Return `KEY 20, now 25` for each key that differs between two nested dictionaries."""
    if isinstance(there, dict) and isinstance(now, dict):
        return [
            text
            for key in dict.fromkeys((*there, *now))
            for text in config_changes(
                there.get(key, "absent"), now.get(key, "absent"), f"{path}.{key}" if path else str(key)
            )
        ]
    return [] if there == now else [f"{path} {there}, now {now}"]


def load_records(folder: ResultFolder) -> Records:
    """Return what the results of a folder were made from.

    The records are empty where the folder doesn't say it of each sequence: results of other programs, or of
    earlier versions of this one.

    Raises:
        DataError: `run.json` is damaged.
    """
    path = folder.path / FILE_NAME
    if not path.is_file():
        return Records()
    try:
        content = dict(json.loads(path.read_text(encoding="utf-8")))
        if content and "sequences" not in content:
            return Records()
        sequences = {name: _origin(item) for name, item in content["sequences"].items()}
        records = Records(sequences, content["weights"], content["configs"])
        for origin in sequences.values():  # every reference leads somewhere
            _ = records.weights[origin.weights]["file"], records.configs[origin.config]
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise DataError(
            f"'{path}' isn't a description of a run ({type(error).__name__}: {error}); remove it, or the "
            "results beside it"
        ) from error
    return records


def _origin(item: dict[str, Any]) -> Origin:
    first, last = item["frames"]
    return Origin(**{**item, "frames": (int(first), int(last))})


def refuse_others(folder: ResultFolder, run: Provenance, sequences: list[Sequence]) -> None:
    """Raise `DataError` if the folder has results of a sequence that `run` would make differently."""
    records = load_records(folder)
    found = []
    for sequence in sequences:
        difference = records.difference(run, sequence)
        if difference is not None and folder.boxes(sequence.name).is_file():
            found.append(f"'{sequence.name}' ({difference})")
    if found:
        more = f" and {len(found) - 5} more" if len(found) > 5 else ""
        raise DataError(
            f"'{folder.path}' holds results that were made otherwise: {', '.join(found[:5])}{more}. Keep "
            "them by --runid N for this run, or overwrite them by --force"
        )


def claim(folder: ResultFolder, run: Provenance, sequence: Sequence) -> None:
    """Remove a sequence's results and note what the next ones are made from.

    It comes before the sequence is run, so that a run that is interrupted leaves no results under a wrong
    description.
    """
    folder.boxes(sequence.name).unlink(missing_ok=True)
    records = load_records(folder)
    records.enter(run, sequence)
    write_text(folder.path / FILE_NAME, records.text())
