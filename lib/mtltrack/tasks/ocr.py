"""The ocr task: what the target's licence plate says, read column by column from a glimpse at the plate."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mtltrack.core.alphabets import decode_codes, load_alphabet
from mtltrack.core.errors import ConfigError
from mtltrack.core.precision import in_full, run_in_full
from mtltrack.core.registry import HEADS
from mtltrack.core.types import Clip, FrameContext, TaskOutput, Tokens
from mtltrack.losses.boxes import box_iou, boxes_cxcywh_to_xyxy
from mtltrack.losses.ctc import ctc_loss
from mtltrack.losses.ctc_decoding import beam_codes, character_confidences, greedy_codes, log_probability
from mtltrack.metrics.text import TextMetrics
from mtltrack.models.layers.glimpse import ColumnContext, ColumnEncoder, boxes_in_view, take_glimpses
from mtltrack.models.layers.location import view_to_search


@HEADS.register_module()
class OCRHead(nn.Module):
    """Read the plate from a glimpse of the detail view, with CTC.

    The glimpse is sampled at the plate's box so that the text's loss reaches that box; its columns attend to
    the plate head's features, by which the loss reaches plate head, box features and backbone also where the
    true box was looked at. In training that is the labelled box, jittered, with a probability that falls
    from 1 (until `truth_until` of the learning time) to 0 (at `truth_gone`); else, and always outside
    training or without a label, the predicted one. A predicted box that overlaps the true one by less than
    `min_overlap` shows no text to learn from: then the true one is used.

    Predictions: `logits` (B, T, columns, A + 1), unbounded, class 0 CTC's blank, class k the alphabet's
    character k - 1; `glimpse_cxcywh` (B, T, 4), the box that was looked at, in [0, 1] of the search crop.
    Features (B, T, columns, hidden_dim).

    Args:
        channels: C of the search tokens; not used.
        upstream_channels: width of the features of the heads that it reads.
        hidden_dim: D, a multiple of 4.
        columns: how many columns the glimpse is read in; a text needs one for each character and one more
            between equal neighbours.
        alphabet: a name ("latin", "chinese") or the characters themselves.
        glimpse: height and width of the glimpse in pixels, multiples of 8 and 4.
        margin: added on each side of the box, shares of its width and height.
        width: channels of the first convolution, a multiple of 8.
        dropout: share of column features dropped in training.
        beam: texts kept by the beam search that decodes; 0: the best path only.
        truth_until: share of the learning time that looks at the true box only.
        truth_gone: share of the learning time after which the predicted box is looked at.
        jitter: in training, how far the true box is moved and scaled at most, a share of its size.
        min_overlap: intersection over union with the true box that a predicted one needs to be learned from.
        ctc_weight: weight of the loss.

    Raises:
        ConfigError: an argument is out of range, or the clip has no detail view.
    """

    task = "ocr"
    reads: tuple[str, ...] = ("plate",)
    decode_keys: tuple[str, ...] = ("logits",)
    needs_detail = True  # online the detail view is only cut for heads that say so

    def __init__(
        self,
        channels: int,
        upstream_channels: Mapping[str, int],
        hidden_dim: int = 96,
        columns: int = 24,
        alphabet: str = "latin",
        glimpse: Sequence[int] = (32, 96),
        margin: float | Sequence[float] = 0.1,
        width: int = 32,
        dropout: float = 0.1,
        beam: int = 0,
        truth_until: float = 0.4,
        truth_gone: float = 0.8,
        jitter: float = 0.1,
        min_overlap: float = 0.3,
        ctc_weight: float = 1.0,
    ) -> None:
        super().__init__()
        del channels  # what the tokens say comes through the plate's features
        _check_arguments(hidden_dim, columns, glimpse, width, beam, truth_until, truth_gone)
        self.alphabet = load_alphabet(alphabet)
        self.columns, self.glimpse, self.margin, self.beam = columns, tuple(glimpse), margin, beam
        self.truth_until, self.truth_gone = truth_until, truth_gone
        self.jitter, self.min_overlap = jitter, min_overlap
        self.truth_share = 1.0
        self.term_weights = {"ctc": ctc_weight}
        self.feature_channels = hidden_dim
        self.encoder = ColumnEncoder(columns, hidden_dim, glimpse[0], width)
        self.context = ColumnContext(hidden_dim, upstream_channels["plate"], columns, dropout=dropout)
        self.classifier = nn.Linear(hidden_dim, len(self.alphabet) + 1)

    def schedule(self, progress: float) -> None:
        """Set how often the true box is looked at, from the share of the learning time that is over."""
        span = max(self.truth_gone - self.truth_until, 1e-6)
        self.truth_share = min(1.0, max(0.0, (self.truth_gone - progress) / span))

    def forward(self, tokens: Tokens, upstream: Mapping[str, TaskOutput], clip: Clip) -> TaskOutput:
        """Read every frame's plate."""
        del tokens
        plate = upstream["plate"]
        if clip.detail is None or clip.detail_affine is None:
            raise ConfigError(
                "TASKS.ocr reads the plate from the detail view, which the clip doesn't have. Give "
                "DATA.DETAIL: {SIZE: 256, FACTOR: 2.0} (its side in pixels and in target sizes)."
            )
        if plate.features is None:
            raise ConfigError("TASKS.ocr attends to the features of TASKS.plate, but that head offers none.")
        batch_frames = clip.detail.shape[:2]
        boxes = self._boxes_to_read(in_full(plate.predictions["cxcywh"]), clip.labels.get("ocr"))
        with torch.autocast(boxes.device.type, enabled=False):
            view = view_to_search(clip).flatten(0, 1)
            inside = boxes_in_view(boxes.flatten(0, 1), view)
            glimpses = take_glimpses(in_full(clip.detail.flatten(0, 1)), inside, self.glimpse, self.margin)
        columns = self.context(self.encoder(glimpses), plate.features.flatten(0, 1))
        logits = run_in_full(self.classifier, columns)
        predictions = {"logits": logits.unflatten(0, batch_frames), "glimpse_cxcywh": boxes}
        return TaskOutput(columns.unflatten(0, batch_frames), predictions)

    def _boxes_to_read(self, predicted: Tensor, labels: dict[str, Tensor] | None) -> Tensor:
        """Choose predicted or true boxes, (B, T, 4) cxcywh in [0, 1] of the search crop."""
        if not self.training or labels is None:
            return predicted
        truth = in_full(labels["cxcywh"])
        overlap = box_iou(boxes_cxcywh_to_xyxy(predicted.detach()), boxes_cxcywh_to_xyxy(truth))
        drawn = torch.rand_like(overlap) < self.truth_share
        use_truth = labels["valid"] & (drawn | (overlap < self.min_overlap))
        return torch.where(use_truth[..., None], self._jittered(truth), predicted)

    def _jittered(self, boxes: Tensor) -> Tensor:
        noise = self.jitter * (2 * torch.rand_like(boxes) - 1)
        centre = boxes[..., :2] + noise[..., :2] * boxes[..., 2:]
        return torch.cat([centre, boxes[..., 2:] * noise[..., 2:].exp()], dim=-1)

    def loss_terms(self, output: TaskOutput, labels: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return {"ctc": (B, T)}, nats a character; 0 where there is no text or the columns can't emit it.

        Args:
            output: the head's predictions.
            labels: `valid` (B, T), `codes` (B, T, L) int64, `length` (B, T) int64.
        """
        logits = output.predictions["logits"]
        length = torch.where(labels["valid"], labels["length"], 0)
        loss = ctc_loss(logits.flatten(0, 1), labels["codes"].flatten(0, 1), length.flatten())
        loss = loss.view(length.shape)
        return {"ctc": torch.where(length > 0, loss, torch.zeros_like(loss))}

    def decode(self, output: TaskOutput) -> list[list[dict[str, Any]]]:
        """Return, a clip and frame, `text`, `confidence` and `characters`.

        `confidence` in [0, 1] is the probability of the text, over all of its paths; 0 where nothing was
        read. `characters` holds one confidence in [0, 1] a character (`character_confidences`).
        """
        scores = output.predictions["logits"].float().log_softmax(-1).numpy()
        return [[self._read(frame) for frame in clip] for clip in scores]

    def _read(self, log_probabilities: NDArray[np.float32]) -> dict[str, Any]:
        if self.beam:
            codes = beam_codes(log_probabilities, self.beam)[0][0]
        else:
            codes = greedy_codes(log_probabilities)
        confidence = math.exp(log_probability(log_probabilities, codes)) if codes else 0.0
        return {
            "text": decode_codes(codes, self.alphabet),
            "confidence": min(confidence, 1.0),
            "characters": character_confidences(log_probabilities, codes),
        }

    def metrics(self) -> OcrMetrics:
        return OcrMetrics(self)

    def session(self, zones: Mapping[str, NDArray[np.float64]]) -> OcrSession:
        """Return what joins a video's readings."""
        del zones
        return OcrSession()


class OcrMetrics:
    """`TextMetrics` fed with a head's output and a clip's labels."""

    def __init__(self, head: OCRHead) -> None:
        self.head = head
        self.texts = TextMetrics()

    def update(self, output: TaskOutput, labels: dict[str, Tensor]) -> None:
        valid = labels["valid"]
        logits = output.predictions["logits"].detach()[valid].cpu()
        answers = self.head.decode(TaskOutput(None, {"logits": logits[:, None]}))
        truth = [decode_codes(codes, self.head.alphabet) for codes in labels["codes"][valid].tolist()]
        self.texts.update([answer[0]["text"] for answer in answers], truth)

    def compute(self) -> dict[str, float]:
        return self.texts.compute()

    def collected(self) -> Any:
        """Return what was counted, for another process to `merge`."""
        return self.texts.collected()

    def merge(self, collected: Any) -> None:
        """Add what another one `collected`."""
        self.texts.merge(collected)

    def reset(self) -> None:
        self.texts.reset()


class OcrSession:
    """Hands out each frame's reading beside the one fused from all frames so far.

    Where the plate head says that no plate can be seen, nothing is read.
    """

    def __init__(self) -> None:
        self.readings = FusedReading()

    def update(self, answer: Any, frame: FrameContext) -> dict[str, Any]:
        """Return `text`, `confidence`, `characters`, and `fused`: `text`, `confidence`, `frames` used."""
        plate = frame.results.get("plate")
        if plate is not None and not plate["present"]:
            answer = {"text": "", "confidence": 0.0, "characters": []}
        self.readings.add(answer["text"], answer["confidence"], answer["characters"])
        return {
            "text": answer["text"],
            "confidence": float(answer["confidence"]),
            "characters": [float(value) for value in answer["characters"]],
            "fused": self.readings.best(),
        }


class FusedReading:
    """Votes over the readings of a track, weighted by their confidences.

    A reading votes with its text's confidence for its length; among the readings of the length with most
    votes, each votes at every place for its character, with that weight times the character's confidence.
    The fused text takes the winner at each place. Its confidence is the product over the places of the
    winner's votes over the weight of these readings: high only where sure readings agree.
    """

    def __init__(self) -> None:
        self.frames = 0
        self._weights: defaultdict[int, float] = defaultdict(float)  # by length
        self._votes: dict[int, list[defaultdict[str, float]]] = {}

    def add(self, text: str, confidence: float, characters: Sequence[float]) -> None:
        """Add a reading; an empty or wholly unsure one changes nothing."""
        if not text or confidence <= 0:
            return
        self.frames += 1
        self._weights[len(text)] += confidence
        places = self._votes.setdefault(len(text), [defaultdict(float) for _ in text])
        for place, character, sure in zip(places, text, characters, strict=True):
            place[character] += confidence * sure

    def best(self) -> dict[str, Any]:
        """Return `text` ("" before the first reading), `confidence` in [0, 1] and `frames`, how many were
        added."""
        if not self.frames:
            return {"text": "", "confidence": 0.0, "frames": 0}
        length = max(self._weights, key=self._weights.__getitem__)
        winners = [max(place.items(), key=lambda vote: vote[1]) for place in self._votes[length]]
        confidence = math.prod(votes / self._weights[length] for _, votes in winners)
        return {"text": "".join(c for c, _ in winners), "confidence": confidence, "frames": self.frames}


def _check_arguments(
    hidden_dim: int,
    columns: int,
    glimpse: Sequence[int],
    width: int,
    beam: int,
    truth_until: float,
    truth_gone: float,
) -> None:
    if hidden_dim < 4 or hidden_dim % 4 or width < 8 or width % 8:
        raise ConfigError(
            f"TASKS.ocr.HIDDEN_DIM must be a multiple of 4 and WIDTH one of 8; found {hidden_dim} and {width}"
        )
    if len(glimpse) != 2 or min(glimpse) < 8 or glimpse[0] % 8 or glimpse[1] % 4:
        raise ConfigError(
            "TASKS.ocr.GLIMPSE is [height, width] in pixels, the height a multiple of 8 and the width of 4; "
            f"found {list(glimpse)}"
        )
    if not 1 <= columns <= glimpse[1] // 4:
        raise ConfigError(
            f"TASKS.ocr.COLUMNS is {columns}; a glimpse of {glimpse[1]} pixels has 1 to {glimpse[1] // 4} "
            "columns. Widen GLIMPSE, or take fewer."
        )
    if beam < 0 or not 0 <= truth_until <= truth_gone <= 1:
        raise ConfigError(
            "TASKS.ocr wants BEAM of at least 0 and 0 <= TRUTH_UNTIL <= TRUTH_GONE <= 1; "
            f"found {beam}, {truth_until} and {truth_gone}"
        )
