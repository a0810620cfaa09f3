"""The list of bad data that a run met, for programs: one JSON object a line."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from mtltrack.core.registry import MONITORS
from mtltrack.training.monitors import Monitor


@MONITORS.register_module()
class BadSampleMonitor(Monitor):
    """Writes `<save_dir>/logs/<script>-<config>.bad_samples.jsonl`: for each epoch every fault once.

    A line holds `part` ("train" or "val"), `epoch`, `file`, `line`, `key` (of an LMDB), `reason` and `count`,
    how many draws hit the fault. An epoch that is trained again replaces its lines.
    """

    def start(self, global_step: int) -> None:
        if global_step == 0:
            self.info.bad_samples_file.unlink(missing_ok=True)

    def faults(self, part: str, epoch: int, records: Sequence[Mapping[str, Any]]) -> None:
        path = self.info.bad_samples_file
        path.parent.mkdir(parents=True, exist_ok=True)
        known = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
        kept = [line for line in known if self._stays(line, part, epoch)]
        lines = [json.dumps({"part": part, "epoch": epoch, **record}) for record in records]
        if not lines and len(kept) == len(known):
            return
        fresh = path.with_suffix(".part")
        fresh.write_text("".join(f"{line}\n" for line in [*kept, *lines]), encoding="utf-8")
        fresh.replace(path)

    @staticmethod
    def _stays(line: str, part: str, epoch: int) -> bool:
        record = json.loads(line)
        return bool(record["part"] != part or record["epoch"] < epoch)
