"""The parts of the audit by themselves: what heads read, what is expected, readings, sums, switches."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from faults import AuditSizeHead
from small_models import Small

from mtltrack.core.errors import ConfigError
from mtltrack.training.audit.clips import ClipShape, made_up_clip
from mtltrack.training.audit.expectation import Expected, Need, Wiring
from mtltrack.training.audit.inputs import TOKENS, Edge, used_edges, watched_inputs
from mtltrack.training.audit.model_stages import model_stages
from mtltrack.training.audit.objective import head_terms
from mtltrack.training.audit.readings import Limits, Reading, Verdict, by_size, judge, read
from mtltrack.training.audit.run import audit
from mtltrack.training.audit.state import left_as_found, without_chance
from mtltrack.training.audit.sums import check_sum, cosines, measured_weights, relative_difference
from mtltrack.training.audit.switches import SwitchMeter

MEAN, STD = [0.5] * 3, [0.2] * 3

# --- what heads read


def test_what_a_head_reads_is_found_without_gradients() -> None:
    small = Small(tasks={"size": {"TYPE": "AuditSizeHead"}})
    head = small.tracker.get_submodule("size_head")
    with torch.no_grad(), watched_inputs({"size": head}) as calls:
        small.tracker(small.clip.normalised(MEAN, STD))
    call = calls["size"]
    assert {str(edge) for edge in call.edges} >= {
        "tokens.search -> size",
        "box.boxes_cxcywh -> size",
        "box.features -> size",
    }
    used = used_edges(call, head_terms("size", head, small.clip))
    assert used == {"size": {Edge(TOKENS, "search", "size"), Edge("box", "boxes_cxcywh", "size")}}


def test_a_watched_pass_answers_the_same() -> None:
    small = Small(tasks=("cls", "seg"))
    clip = small.clip.normalised(MEAN, STD)
    small.tracker.eval()
    plain = small.tracker(clip)
    with watched_inputs(small.tracker.task_parts()):
        watched = small.tracker(clip)
    for task, output in plain.items():
        for name, value in output.predictions.items():
            assert torch.equal(value, watched[task].predictions[name])


# --- what is expected


def wiring(small: Small, stage: str, detach: bool = False) -> Wiring:
    (found,) = [item for item in small.trainer.stages if item.name == stage]
    used = {Edge(TOKENS, "search", "size"), Edge("box", "boxes_cxcywh", "size")}
    given = {"size": used | {Edge("box", "features", "size")}}
    return Wiring(small.tracker, found, given, {"size": {"size": used}})


def needs(small: Small, stage: str, task: str, term: str | None) -> dict[str, Need]:
    ways = wiring(small, stage)
    return {item.name: ways.cell(task, term, item).need for item in model_stages(small.tracker)}


def test_expectations_follow_graph_and_stage() -> None:
    small = Small(tasks={"size": {"TYPE": "AuditSizeHead"}})
    joint = needs(small, "joint", "size", "size")
    assert joint["backbone.patch_embed"] is Need.REQUIRED and joint["size"] is Need.REQUIRED
    assert joint["box.size.out"] is Need.ALLOWED, "some stage of the box head, by the part's rule"
    assert set(wiring(small, "joint").needed_parts("size", "size")) == {"backbone", "box", "size"}
    heads = needs(small, "heads", "size", "size")
    assert heads["size"] is Need.REQUIRED
    assert {need for name, need in heads.items() if name != "size"} == {Need.FORBIDDEN}
    box = needs(small, "heads", "box", "giou")
    assert set(box.values()) == {Need.FORBIDDEN}, "the box loss doesn't count in stage 1"


def test_detach_and_declared_reaches_forbid() -> None:
    small = Small(tasks={"size": {"TYPE": "AuditSizeHead", "DETACH": ["box"]}})
    ways = wiring(small, "joint")
    assert "box" not in ways.reached("size")
    cell = ways.edge(Edge("box", "boxes_cxcywh", "size"))
    assert cell.need is Need.FORBIDDEN and cell.why == "TASKS.size.DETACH names box"
    focal = needs(small, "joint", "box", "focal")
    assert focal["box.ctr.out"] is Need.REQUIRED and focal["box.size"] is Need.FORBIDDEN
    assert needs(small, "joint", "box", "l1")["box.size"] is Need.ALLOWED, "may be zero"
    assert needs(small, "joint", "box", None)["box.size"] is Need.REQUIRED


def test_a_head_that_depends_on_nothing_is_held_to_what_it_declares() -> None:
    small = Small(tasks={"size": {"TYPE": "AuditSizeHead"}})
    (stage,) = [item for item in small.trainer.stages if item.name == "joint"]
    given = {Edge(TOKENS, "search", "size"), Edge("box", "features", "size"), Edge("box", "scores", "size")}
    ways = Wiring(small.tracker, stage, {"size": given}, {"size": {"size": set()}})
    assert {str(edge) for edge in ways.edges("size")} == {"tokens.search -> size", "box.features -> size"}


# --- readings


def test_a_reading_counts_entries() -> None:
    parameters = {"a": torch.full((4,), 2.0), "b": torch.zeros(2)}
    reading = read(parameters, {"a": torch.tensor([3.0, 0.0, math.inf, 4.0]), "b": None})
    assert reading.norm == pytest.approx(5.0)
    assert reading.ratio == pytest.approx(5.0 / 4.0)
    assert reading.zeros == pytest.approx(3 / 6) and reading.bad == pytest.approx(1 / 6)
    assert reading.graph and not reading.live
    nothing = read(parameters, {})
    assert not nothing.graph and nothing.zeros == 1.0


@pytest.mark.parametrize(
    ("reading", "need", "verdict"),
    [
        (Reading(1.0, 0.0, 0.0, True, 1.0), Need.REQUIRED, Verdict.CONNECTED),
        (Reading(0.0, 1.0, 0.0, True, 0.0), Need.REQUIRED, Verdict.MISSING),
        (Reading(0.0, 1.0, 0.0, False, 0.0), Need.REQUIRED, Verdict.MISSING),
        (Reading(0.0, 1.0, 0.0, False, 0.0), Need.ALLOWED, Verdict.NONE),
        (Reading(0.0, 1.0, 0.0, False, 0.0), Need.FORBIDDEN, Verdict.NONE),
        (Reading(0.0, 1.0, 0.0, True, 0.0), Need.FORBIDDEN, Verdict.LEAKING),
        (Reading(1.0, 0.0, 0.1, True, 1.0), Need.ALLOWED, Verdict.NON_FINITE),
    ],
)
def test_verdicts(reading: Reading, need: Need, verdict: Verdict) -> None:
    assert judge(reading, Expected(need, "")) is verdict


def test_sizes_are_compared_with_the_gradient_on_the_predictions() -> None:
    def of(norm: float) -> Reading:
        return Reading(norm, 0.0, 0.0, True, 1.0)

    limits = Limits(vanishing=1e-3, exploding=1e3)
    found = by_size([of(1.0), of(1e-4), of(1e5)], 1.0, limits)
    assert found == [Verdict.CONNECTED, Verdict.VANISHING, Verdict.EXPLODING]
    saturated = by_size([of(1e-17), of(1e-16)], 1e-17, limits)
    assert saturated == [Verdict.CONNECTED, Verdict.CONNECTED], "a flat loss is flat everywhere"
    assert by_size([of(1.0), of(2.0), of(1e-4)], 0.0, limits)[2] is Verdict.VANISHING, "beside the median"


# --- sums


def test_lambdas_are_read_off_the_total() -> None:
    a = {"shared": torch.tensor([1.0, 2.0]), "own_a": torch.tensor([3.0])}
    b = {"shared": torch.tensor([-2.0, 1.0]), "own_b": torch.tensor([1.0])}
    total = {"shared": a["shared"] + 0.1 * b["shared"], "own_a": a["own_a"], "own_b": 0.1 * b["own_b"]}
    assert measured_weights(total, {"a": a, "b": b}) == pytest.approx({"a": 1.0, "b": 0.1})
    weights, difference, findings = check_sum(total, {"a": a, "b": b}, {"a": 1.0, "b": 0.1}, Limits())
    assert difference < 1e-6 and not findings and [w.task for w in weights] == ["a", "b"]
    shared_only = {"a": {"shared": a["shared"]}, "b": {"shared": b["shared"]}}
    found = measured_weights({"shared": total["shared"]}, shared_only)  # by least squares
    assert found == pytest.approx({"a": 1.0, "b": 0.1})


def test_differences_and_cosines() -> None:
    one = {"x": torch.tensor([3.0, 4.0]), "y": torch.tensor([5.0])}
    assert relative_difference(one, {"x": torch.tensor([3.0, 4.0])}) == pytest.approx(1.0)
    assert relative_difference({}, one) == pytest.approx(1.0)
    pairs = cosines({"a": one, "b": {"x": torch.tensor([4.0, -3.0])}, "c": {"x": torch.tensor([6.0, 8.0])}})
    assert pairs == pytest.approx({("a", "b"): 0.0, ("a", "c"): 1.0, ("b", "c"): 0.0})


# --- the model afterwards, the clip


def test_an_audit_leaves_the_model_as_it_was() -> None:
    small = Small("hiptrack")
    tracker = small.tracker
    tracker.backbone.requires_grad_(False)
    tracker.box_head.eval()
    before = {name: value.clone() for name, value in tracker.state_dict().items()}
    torch.manual_seed(5)
    small.audit("joint")
    drawn = torch.rand(3)
    torch.manual_seed(5)
    assert torch.equal(drawn, torch.rand(3)), "random numbers go on as without it"
    assert all(torch.equal(value, before[name]) for name, value in tracker.state_dict().items())
    assert not any(p.requires_grad for p in tracker.backbone.parameters())
    assert not any(module.training for module in tracker.box_head.modules())
    assert all(p.grad is None for p in tracker.parameters())
    assert "train" not in vars(tracker.backbone) and "encode" not in vars(tracker)


def test_chance_is_taken_out_and_put_back() -> None:
    tracker = Small(tasks=("cls", "ocr", "plate")).tracker
    with left_as_found(tracker), without_chance(tracker):
        assert tracker.get_submodule("cls_head.hidden")[2].p == 0.0
        assert tracker.backbone.blocks[1].drop_path1.drop_prob == 0.0
        assert tracker.get_submodule("ocr_head").jitter == 0.0
    assert tracker.get_submodule("cls_head.hidden")[2].p == 0.1
    assert tracker.backbone.blocks[1].drop_path1.drop_prob == pytest.approx(0.2)


def test_a_task_without_made_up_labels_says_what_to_do() -> None:
    class Strange:
        term_weights = {"x": 1.0}  # noqa: RUF012

    shape = ClipShape(1, 1, 32, 64)
    with pytest.raises(ConfigError, match="no made-up labels for the task 'strange'") as error:
        made_up_clip({"box": None, "strange": Strange()}, shape)
    assert "--data real" in str(error.value) and "example_labels(clip)" in str(error.value)
    clip = made_up_clip({"box": None, "size": AuditSizeHead(4)}, shape)
    assert clip.labels["size"]["value"].shape == (1, 1, 2)


# --- switches


def test_switches_are_measured_beside_the_plain_gradient() -> None:
    small = Small("hiptrack")
    found = {switch.name: switch for switch in SwitchMeter(small.trainer, small.clip, repeats=1).measure()}
    assert list(found) == [
        "activation checkpointing",
        "activation checkpointing, batch norms frozen",
        "bfloat16",
        "two micro-batches",
        "two micro-batches, batch norms frozen",
        "history's gradient back over 0 frame(s)",
        "backbone frozen",
    ]
    saving = found["activation checkpointing"]
    assert saving.difference < 1e-5 and saving.memory < 0.7 * saving.plain_memory
    assert found["two micro-batches, batch norms frozen"].difference < 1e-4
    assert found["two micro-batches"].difference > 1e-2, "batch statistics of half a batch"
    assert found["two micro-batches"].memory < 0.7 * found["two micro-batches"].plain_memory
    cut = found["history's gradient back over 0 frame(s)"]
    assert cut.difference > 1e-2 and cut.memory < cut.plain_memory and cut.lost == 0
    frozen = found["backbone frozen"]
    assert frozen.lost == 5 and frozen.difference < 1e-5 and frozen.cosine == pytest.approx(1.0)
    assert 0.5 < found["bfloat16"].cosine < 1.0


# --- as a library


def test_a_tracker_is_audited_as_for_a_trainer() -> None:
    small = Small()
    report = audit(
        small.tracker, small.trainer.stages, small.trainer.settings, small.clip, model="a small tracker"
    )
    assert report.passed and report.model == "a small tracker"
    assert [stage.name for stage in report.stages] == ["heads", "joint"]
    assert report.clip == "2 clip(s) of 2 frame(s), search 64 px"
    assert small.trainer.position.stage == 0


def test_a_stage_that_can_not_start_is_a_finding() -> None:
    small = Small()
    stage = small.trainer.stages[0]
    small.trainer.stages = [replace(stage, trains=frozenset({"nothing"}))]
    (finding,) = small.audit().stages[0].findings
    assert finding.kind == "optimizer" and "the tracker has backbone" in finding.message
