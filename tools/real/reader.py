"""Teach the reader from nothing and score it on plate crops that it was not trained on.

    python tools/real/reader.py ostrack ostrack_reader_tiny --train --save_dir output/reader
    python tools/real/reader.py ostrack ostrack_reader_tiny --save_dir output/reader --out reader.json

The crops are those that the configuration's own PlateCrops entries keep for testing: every TEST_EVERY-th text
of each folder. A crop is all plate, so the reader is given its box and reads once; the head plate takes part
by its features only. Rendered plates that were not trained on are read twice, at the true box and at the one
that the head plate finds. The constant predictor answers every crop of a folder with one text: at each place
the most frequent character among the folder's training texts of the most frequent length. One more row tells
how well the crops are read that were trained on.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from rich.table import Table

sys.path.insert(0, str(Path(__file__).resolve().parent))

from trained import OneSequence, configuration, score_parser, trained, write_scores

from mtltrack.cli.build_data import crop_settings
from mtltrack.cli.command import make_console, run_command
from mtltrack.core.config import Config
from mtltrack.core.errors import ConfigError
from mtltrack.core.types import Clip, TaskOutput
from mtltrack.data.build import build_dataset
from mtltrack.data.collate import Sample, collate
from mtltrack.data.datasets.plate_crops import PlateCrops
from mtltrack.data.sampler import ClipDataset
from mtltrack.data.sequences import SequenceDataset
from mtltrack.data.synthetic.plate_photos import RenderedPlates
from mtltrack.metrics.text import TextMetrics

TASK, PLATE, KIND = "ocr", "plate", "PlateCrops"
BATCH = 32
UNSEEN_SEED = (
    1_000_003  # of rendered plates for testing; that of training is 0 unless the YAML says otherwise
)
COLUMNS = ("exact", "cer", "length")

Scores = dict[str, float]
Readings = list[tuple[str, str]]  # what was read, and what stands there
Rows = dict[str, Readings]


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = score_parser(__doc__, TASK)
    parser.add_argument("--rendered", type=int, default=300, help="rendered plates to read (300)")
    return parser.parse_args(arguments)


def crop_folders(cfg: Config) -> list[tuple[PlateCrops, PlateCrops]]:
    """Return training and testing part of each folder of crops that the configuration trains on.

    Raises:
        ConfigError: there is none, or one of them is trained on as a whole.
    """
    found = []
    for given in cfg.DATA.TRAIN.DATASETS_NAME:
        entry: dict[str, Any] = (
            {key.upper(): value for key, value in given.items()} if isinstance(given, Mapping) else {}
        )
        if entry.get("TYPE") != KIND:
            continue
        if entry.get("SPLIT", "all") != "train":
            raise ConfigError(
                f"DATA.TRAIN.DATASETS_NAME trains on all of {entry['ROOT']}: nothing is left that it wasn't "
                "trained on. Set SPLIT: train"
            )
        parts = [build_dataset({**entry, "SPLIT": split}) for split in ("train", "test")]
        assert isinstance(parts[0], PlateCrops) and isinstance(parts[1], PlateCrops)
        found.append((parts[0], parts[1]))
    if not found:
        raise ConfigError(
            f"DATA.TRAIN.DATASETS_NAME names no {KIND}; add one as in "
            "experiments/ostrack/ostrack_reader_tiny.yaml"
        )
    return found


def clips_of(cfg: Config, head: Any, source: SequenceDataset) -> Iterator[Clip]:
    """Give batches of all pictures of a data set, each cut once and without jitter.

    Args:
        cfg: how to cut.
        head: the reader, which has an alphabet and columns.
        source: the data set.
    """
    crop = crop_settings(cfg)
    if crop.detail is None:
        raise ConfigError("the reader needs DATA.DETAIL: {SIZE: 192, FACTOR: 2.2}")
    still = {"center_jitter": 0.0, "scale_jitter": 0.0}
    crop = replace(crop, search=replace(crop.search, **still), detail=replace(crop.detail, **still))
    samples: list[Sample] = []
    for number in range(source.num_sequences):
        clips = ClipDataset(
            [OneSequence(source, number)],
            [1],
            1,
            num_search=1,
            crop=crop,
            augment=False,
            tasks=[PLATE, TASK],
            alphabet=head.alphabet,
            text_columns=head.columns,
        )
        samples.append(clips[0, 0])
        if len(samples) == BATCH or number == source.num_sequences - 1:
            yield collate(samples)
            samples = []


class Reader:
    """Reads plates with a trained model."""

    def __init__(self, cfg: Config, net: Any) -> None:
        self.cfg = cfg
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.net = net.to(self.device).eval()
        self.head = net.heads()[TASK]

    @torch.no_grad()
    def read(self, source: SequenceDataset, find: bool = False) -> Readings:
        """Return reading and text of every picture, at the true box or (`find`) at the one found."""
        readings: list[str] = []
        for raw in clips_of(self.cfg, self.head, source):
            clip = raw.to(self.device).normalised(self.cfg.DATA.MEAN, self.cfg.DATA.STD)
            outputs = self.net(clip, tasks=[PLATE, TASK])
            output = outputs[TASK] if find else self._read_at_truth(clip, outputs)
            answers = self.head.decode(TaskOutput(None, {"logits": output.predictions["logits"].cpu()}))
            readings += [answer[0]["text"] for answer in answers]
        truth = [_text(source, i) for i in range(source.num_sequences)]
        return list(zip(readings, truth, strict=True))

    def _read_at_truth(self, clip: Clip, outputs: Mapping[str, TaskOutput]) -> TaskOutput:
        if not bool(clip.labels[TASK]["valid"].all()):
            raise ConfigError("the detail view doesn't show a whole plate: raise DATA.DETAIL.FACTOR")
        plate = outputs[PLATE]
        predictions = {**plate.predictions, "cxcywh": clip.labels[TASK]["cxcywh"]}
        answer = self.head(None, {PLATE: TaskOutput(plate.features, predictions)}, clip)
        assert isinstance(answer, TaskOutput)
        return answer


def _text(source: SequenceDataset, i: int) -> str:
    text = source.sequence(i).plates[0].text
    assert text is not None
    return text


def score(readings: Readings) -> Scores:
    """Return exact, cer and length of (reading, text) pairs."""
    metrics = TextMetrics()
    metrics.update([answer for answer, _ in readings], [text for _, text in readings])
    return metrics.compute()


def constant_text(texts: Sequence[str]) -> str:
    """Return the most frequent character at each place, of the texts of the most frequent length."""
    length = Counter(map(len, texts)).most_common(1)[0][0]
    places = zip(*(text for text in texts if len(text) == length), strict=True)
    return "".join(Counter(place).most_common(1)[0][0] for place in places)


def score_all(reader: Reader, folders: Sequence[tuple[PlateCrops, PlateCrops]], rendered: int) -> Rows:
    """Return, by name of a row, its readings."""
    rows: Rows = {}
    for training, testing in folders:
        name = Path(testing.store.locate(".")).name
        known = [training.text(i) for i in range(training.num_sequences)]
        constant = constant_text(known)
        rows[f"{name}: reader"] = reader.read(testing)
        truth = [text for _, text in rows[f"{name}: reader"]]
        rows[f"{name}: constant {constant}"] = [(constant, text) for text in truth]
        rows[f"{name}: reader, crops trained on"] = reader.read(training)
    unseen = RenderedPlates(rendered, seed=UNSEEN_SEED)
    rows["rendered: reader"] = reader.read(unseen)
    rows["rendered: reader, box found by the head plate"] = reader.read(unseen, find=True)
    return rows


def run(options: argparse.Namespace) -> int:
    """Run the command and return its exit status."""
    console = make_console()
    cfg = configuration(options, TASK)
    if options.rendered < 1:
        raise ConfigError(f"--rendered is {options.rendered}; it must be at least 1")
    folders = crop_folders(cfg)
    net, checkpoint = trained(options, cfg, console)
    rows = score_all(Reader(cfg, net), folders, options.rendered)
    scores = {name: score(readings) for name, readings in rows.items()}
    table = Table(title="plates not trained on, unless it says so; percent", title_justify="left")
    for column in ("", "plates", *COLUMNS):
        table.add_column(column, justify="left" if not column else "right")
    for name, found in scores.items():
        table.add_row(name, str(len(rows[name])), *(f"{100 * found[column]:.1f}" for column in COLUMNS))
    console.print(table)
    write_scores(options.out, {"checkpoint": str(checkpoint), "scores": scores, "readings": rows})
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    return run_command(run, parse(arguments))


if __name__ == "__main__":
    sys.exit(main())
