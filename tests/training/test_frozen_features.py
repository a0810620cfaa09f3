"""Training with the features of frozen parts kept on disk: the same bits, never another's."""

from __future__ import annotations

import ast
import importlib
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from small_trackers import build, clip
from standins import Batches, Interruption, changed, state_of, stop_after_epoch

import mtltrack
from mtltrack.core.types import Clip, TaskOutput, Tokens
from mtltrack.models.tracker import Known
from mtltrack.training import frozen_features
from mtltrack.training.checkpoint import Description, load_resume
from mtltrack.training.feature_batches import entry, joined, tensors_of
from mtltrack.training.feature_keys import _sources, code_key, numerics, sample_keys, weights_key
from mtltrack.training.feature_store import FeatureStore
from mtltrack.training.files import CheckpointFolder
from mtltrack.training.frozen_features import frozen_parts
from mtltrack.training.monitors import Monitor, Monitors, RunInfo
from mtltrack.training.settings import TrainSettings
from mtltrack.training.stages import enter_stage
from mtltrack.training.trainer import Trainer

NO_NUMBERS = {"mtltrack.metrics.merging"}  # of what box heads import: only scored with
SCRIPTS = ["hiptrack", "ostrack"]
SETTINGS = TrainSettings(lambdas={"cls": 0.1}, val_interval=1, audit_interval=2)
REPEATED = {"DISTINCT_EPOCHS": 1, "DROP_PATH_RATE": 0.2}
STAGES = {"TWO_STAGE": True, "BOX_EPOCHS": 1, "STAGE1_EPOCHS": 2, "STAGE2_EPOCHS": 1, **REPEATED}


@pytest.fixture(autouse=True)
def _nothing_drawn(monkeypatch):
    monkeypatch.delattr("mtltrack.tasks.cls.ClsMetrics.figure")  # drawing takes most of the time


class Notes(Monitor):
    """Remembers what it was told."""

    def __init__(self) -> None:
        super().__init__(RunInfo(Path(), "script", "config"))
        self.messages, self.figures = [], []

    def message(self, text):
        self.messages.append(text)

    def scalars(self, group, values, epoch, global_step):
        told = {name: value for name, value in values.items() if "second" not in name}
        self.figures.append((group, epoch, told))

    def gradients(self, values, global_step):
        self.figures.append(("gradients", global_step, dict(values)))

    def cache(self) -> list[str]:
        return [text.partition("; ")[0] for text in self.messages if text.startswith("feature cache, ")]


def trainer(
    tracker, stages, cache: Path | None, *, precision="no", folder=None, clips=2, **changes
) -> Trainer:
    settings = replace(SETTINGS, feature_cache=cache, feature_cache_bytes=10**9, **changes)
    return Trainer(
        tracker,
        list(stages),
        settings,
        Batches(clip(seed) for seed in range(clips)),
        val_loader=Batches([clip(50)]),
        accelerator=Accelerator(cpu=True, mixed_precision=precision),
        monitors=Monitors([Notes()]),
        about=Description("Small", {"TRAIN": {}}, ("a", "b")),
        checkpoints=None if folder is None else CheckpointFolder(folder, "Small"),
    )


def notes(run: Trainer) -> Notes:
    return run.monitors.monitors[0]


def trained(script, cache, names=("heads", "joint"), **options):
    """Return the weights after some stages, and what was told."""
    tracker, stages = build(script, STAGES)
    torch.manual_seed(3)
    run = trainer(tracker, [stages[name] for name in names], cache, **options)
    run.run()
    return state_of(tracker), notes(run)


def files(folder: Path) -> set[str]:
    return {path.name for path in folder.rglob("*.safetensors")}


def counts(told: Notes) -> list[str]:
    """Return "epoch 1: 0 of 4" for each line of the log."""
    return [text.removeprefix("feature cache, ").split(" samples")[0] for text in told.cache()]


@pytest.mark.parametrize("script", SCRIPTS)
def test_weights_figures_and_gradients_are_the_same_whatever_is_in_the_cache(script, tmp_path):
    weights, told = trained(script, None)
    assert counts(told) == [] and {"val", "epoch", "gradients"} <= {figure[0] for figure in told.figures}
    again, also = trained(script, tmp_path)
    assert not changed(weights, again) and told.figures == also.figures
    first = ["epoch 1: 0 of 4", "validation: 0 of 2", "epoch 2: 4 of 4", "validation: 2 of 2"]
    assert counts(also) == first  # and nothing in the joint stage, neither read
    assert len(files(tmp_path)) == 6  # nor written
    next(tmp_path.rglob("*.safetensors")).unlink()
    again, also = trained(script, tmp_path, names=["heads"])
    assert counts(also)[:2] in (
        ["epoch 1: 2 of 4", "validation: 2 of 2"],  # the other sample of that batch is computed with it
        ["epoch 1: 4 of 4", "validation: 0 of 2"],
    )
    assert also.figures == told.figures[: len(also.figures)] and len(files(tmp_path)) == 6


def test_mixed_precision_gives_the_same_bits_too(tmp_path):
    weights, told = trained("hiptrack", None, names=["heads"], precision="bf16")
    again, also = trained("hiptrack", tmp_path, names=["heads"], precision="bf16")
    assert not changed(weights, again) and told.figures == also.figures
    assert counts(also)[2:] == ["epoch 2: 4 of 4", "validation: 2 of 2"]


def test_where_history_and_box_train_the_backbone_alone_is_kept(tmp_path):
    found = []
    for cache in (None, tmp_path):
        tracker, stages = build("hiptrack", {"EPOCH": 2, **REPEATED})
        torch.manual_seed(3)
        run = trainer(tracker, stages.values(), cache)
        run.run()
        found.append((state_of(tracker), notes(run)))
    (weights, told), (again, also) = found
    assert not changed(weights, again) and told.figures == also.figures
    assert any("backbone frozen, their features are kept in" in text for text in also.messages)
    assert counts(also)[2] == "epoch 2: 4 of 4"


def test_samples_that_never_come_again_are_not_kept_but_those_of_validation_are(tmp_path):
    tracker, stages = build("ostrack", {**STAGES, "DISTINCT_EPOCHS": 0})
    run = trainer(tracker, [stages["heads"]], tmp_path)
    run.run()
    assert counts(notes(run)) == ["validation: 0 of 2", "validation: 2 of 2"] and len(files(tmp_path)) == 2
    (told,) = [text for text in notes(run).messages if "are kept in" in text]
    assert told.endswith("; those of validation only, as TRAIN.DISTINCT_EPOCHS is 0")


def test_what_is_frozen_is_found_out_by_the_parts_themselves():
    tracker, stages = build("hiptrack", STAGES)
    enter_stage(tracker, stages["heads"])
    assert frozen_parts(tracker) == ("backbone", "history", "box")
    tracker.box_head.requires_grad_(True)
    assert frozen_parts(tracker) == ("backbone",)
    tracker.box_head.requires_grad_(False)
    torch.nn.Module.train(tracker.backbone, True)  # drop path: another answer each time
    assert frozen_parts(tracker) == ()
    enter_stage(tracker, stages["joint"])
    assert frozen_parts(tracker) == ()


def test_the_average_of_a_part_that_has_trained_is_not_taken_for_its_weights(tmp_path):
    names = ("box", "heads")
    weights, told = trained("ostrack", None, names, ema=0.5)
    again, also = trained("ostrack", tmp_path, names, ema=0.5)
    assert not changed(weights, again) and told.figures == also.figures
    assert [group for group, _, _ in also.figures].count("val_ema") == 3
    assert [text.partition(":")[0] for text in counts(also)] == [
        "epoch 2",
        "validation",
        "epoch 3",
        "validation",
    ]


def test_the_average_of_what_trains_is_validated_with_the_frozen_features(tmp_path):
    _, told = trained("ostrack", tmp_path, ["heads"], ema=0.5)
    assert counts(told)[1:3] == ["validation: 0 of 2", "validation: 2 of 2"]


def test_an_interrupted_run_ends_with_the_same_bits_with_the_cache_and_without(tmp_path):
    script = "hiptrack"
    weights, _ = trained(script, None, names=["heads"])
    tracker, stages = build(script, STAGES)
    wanted = [stages["heads"]]
    torch.manual_seed(3)
    first = trainer(tracker, wanted, tmp_path / "cache", folder=tmp_path / "run")
    stop_after_epoch(first, 1)
    with pytest.raises(Interruption):
        first.run()
    tracker, _ = build(script, STAGES)
    second = trainer(tracker, wanted, tmp_path / "cache", folder=tmp_path / "run")
    second.resume(*load_resume(tmp_path / "run" / "Small_ep0001.resume.pt"))
    second.run()
    assert not changed(weights, state_of(tracker))
    assert counts(notes(second)) == ["validation: 0 of 2", "epoch 2: 4 of 4", "validation: 2 of 2"]


def test_what_another_processor_has_computed_is_not_taken(tmp_path, monkeypatch):
    """Its libraries may add up in another order; several machines may share a folder."""
    trained("ostrack", tmp_path, names=["heads"])
    monkeypatch.setattr(frozen_features, "processor_name", lambda: "another")
    _, told = trained("ostrack", tmp_path, names=["heads"])
    assert counts(told)[:2] == ["epoch 1: 0 of 4", "validation: 0 of 2"]
    assert len(list(tmp_path.rglob("*.safetensors"))) == 12


def test_damaged_files_are_told_and_computed_again(tmp_path):
    weights, _ = trained("ostrack", tmp_path, names=["heads"])
    for path in tmp_path.rglob("*.safetensors"):
        content = bytearray(path.read_bytes())
        content[-1] ^= 1
        path.write_bytes(content)
    again, told = trained("ostrack", tmp_path, names=["heads"])
    assert not changed(weights, again)
    assert sum("can't be used" in text for text in told.messages) == 6
    assert counts(told)[0] == "epoch 1: 0 of 4" and counts(told)[2] == "epoch 2: 4 of 4"


def test_the_key_of_a_sample_is_its_content_its_batch_and_what_decides_on_rounding():
    def keys(batch: Clip, *more) -> list[str]:
        return sample_keys(batch, *more)

    known = set(keys(clip(), 0.7))
    same = replace(clip(), labels={}, sources=[{"sequence": "other"}] * 2, timestamps=torch.ones(2, 2))
    assert set(keys(same, 0.7)) == known and len(known) == 2
    pixel, box = clip(), clip()
    pixel.search[:, 1, 2, 63, 63] += 1
    box.template_boxes_xywh[:, 3] += 1e-6
    others = [
        *(
            keys(pixel, 0.7),
            keys(box, 0.7),
            keys(clip(), 1.0),
            keys(clip(), None),
            keys(clip().rows([1, 0]), 0.7),
        ),
        keys(clip().rows([0]), 0.7),
        keys(replace(clip(), search_brightness=torch.ones(2, 2)), 0.7),
        keys(replace(clip(), template_brightness=torch.ones(2)), 0.7),
    ]
    assert len(known.union(*others)) == len(known) + sum(map(len, others))


def test_rounding_depends_on_precision_kernel_and_threads():
    cpu = torch.device("cpu")
    usual = numerics(cpu)
    with torch.autocast("cpu", torch.bfloat16):
        assert numerics(cpu) != usual
    products = torch.backends.mkldnn.matmul
    before, products.fp32_precision = products.fp32_precision, "bf16"
    assert numerics(cpu) != usual
    products.fp32_precision = before
    torch.set_num_threads(2)
    assert numerics(cpu) != usual
    torch.set_num_threads(1)
    assert numerics(cpu) == usual


def test_the_key_of_the_weights_holds_weights_statistics_and_settings():
    tracker, _ = build("hiptrack", STAGES)
    tracker.eval()
    parts = tracker.tracker_parts()
    known = {weights_key(parts), weights_key({"backbone": parts["backbone"]}), weights_key(parts, "more")}
    with torch.no_grad():
        tracker.key_proj.key_proj.bias[0] += 1e-6
    known.add(weights_key(parts))
    next(value for name, value in tracker.box_head.named_buffers() if "running_mean" in name)[0] += 1e-6
    known.add(weights_key(parts))
    tracker.backbone.elimination[1] = 0.6
    known.add(weights_key(parts))
    tracker.history.correct_mask = True
    known.add(weights_key(parts))
    assert len(known) == 7
    tracker.train()
    assert weights_key(parts) in known


def test_the_key_of_the_code_holds_the_files_of_foreign_classes_too(tmp_path, monkeypatch):
    module = tmp_path / "own_head.py"
    module.write_text("import torch\n\n\nclass OwnHead(torch.nn.Linear):\n    pass\n", encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    own = importlib.import_module("own_head").OwnHead(1, 1)
    known = code_key([own])
    assert code_key([torch.nn.Linear(1, 1)]) != known == code_key([own])
    module.write_text(module.read_text(encoding="utf-8") + "    # other\n", encoding="utf-8")
    assert code_key([own]) != known


def test_the_key_of_the_code_holds_all_that_the_parts_import():
    """Of this project: module by module, as the import statements say."""
    tracker, _ = build("hiptrack", STAGES)
    files = _sources(tracker.tracker_parts().values())
    inside = [path for path in files if "mtltrack" in path.parts and path.name != "__init__.py"]
    lib = Path(mtltrack.__file__).parents[1]
    for path in inside:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("mtltrack."):
                found = lib.joinpath(*node.module.split(".")).with_suffix(".py")
                assert found in files or not found.is_file() or node.module in NO_NUMBERS, (path, node.module)


def test_a_batch_comes_back_as_it_lay_in_memory():
    values = torch.arange(2 * 3 * 4 * 5, dtype=torch.float32).view(2, 3, 4, 5)
    known = Known(
        Tokens(
            template=values[:, 0, :3],  # a part of something larger
            search=values.transpose(2, 3),
            grid=(1, 5),
            removed=[torch.tensor([[[0]], [[3]]])],
            kept=torch.tensor([[[True]], [[False]]]),
            pyramid=[values.bfloat16().permute(0, 3, 1, 2)],
        ),
        TaskOutput(None, {"score": values[:, :, 0, 0], "same": values[:1, :1].expand(2, 3, 4, 5)}),
    )
    tensors = tensors_of(known)
    back = joined([entry(known, tensors, row) for row in range(2)], torch.device("cpu"))
    assert back.tokens.grid == (1, 5) and back.box.features is None
    for name, value in tensors_of(back).items():
        assert torch.equal(value, tensors[name]) and value.dtype == tensors[name].dtype, name
        if name != "box.prediction.same":  # which was one row, repeated
            assert value.stride() == tensors[name].stride(), name
    assert set(tensors_of(back)) == set(tensors)
    without = Known(replace(known.tokens, kept=None, removed=[], pyramid=[]))
    back = joined([entry(without, tensors_of(without), row) for row in range(2)], torch.device("cpu"))
    assert back.box is None and back.tokens.kept is None and back.tokens.removed == []


def test_a_full_cache_changes_nothing_but_the_time(tmp_path, monkeypatch):
    weights, _ = trained("ostrack", None, names=["heads"])
    monkeypatch.setattr(FeatureStore, "_has_room", lambda self, more, group: self.sizes[group] == 0)
    again, told = trained("ostrack", tmp_path, names=["heads"])
    assert not changed(weights, again) and len(files(tmp_path)) == 1
    assert counts(told)[2] == "epoch 2: 0 of 4"
