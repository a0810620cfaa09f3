"""Where a gradient was lost, came in, or broke: the operation, its line, and the module that it runs in."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mtltrack.training.audit.flow import LEAVES_TORCH, FlowRecorder, Operation

MOST = 3  # operations that are named


@dataclass
class Trace:
    """One recorded forward pass up to a loss.

    Attributes:
        recorder: its operations.
        target: the loss.
    """

    recorder: FlowRecorder
    target: Tensor

    @property
    def goal(self) -> int:
        return self.recorder.number(self.target)

    @property
    def operations(self) -> list[Operation]:
        return self.recorder.operations

    def between(self, sources: Collection[Tensor]) -> tuple[list[int], set[int]]:
        """Return the numbers of the operations between `sources` and the loss, and all tensors after them."""
        after = {self.recorder.number(tensor) for tensor in sources}
        forward = []
        for number, operation in enumerate(self.operations):
            if after.intersection(operation.inputs):
                after.update(operation.outputs)
                forward.append(number)
        before, path = {self.goal}, []
        for number in reversed(range(len(self.operations))):
            operation = self.operations[number]
            if before.intersection(operation.outputs):
                before.update(operation.inputs)
                path.append(number)
        return sorted(set(forward).intersection(path)), after

    def nearest(
        self, path: Collection[int], after: set[int], stops: Callable[[Operation, set[int]], bool]
    ) -> list[Operation]:
        """Walk back from the loss along `path` and return the operations at which `stops` first says so."""
        wanted, found = {self.goal}, []
        for number in sorted(path, reverse=True):
            operation = self.operations[number]
            if not wanted.intersection(operation.outputs):
                continue
            inputs = after.intersection(operation.inputs)
            if stops(operation, inputs):
                found.append(operation)
            else:
                wanted.update(inputs)
        return found[::-1]


def record(
    model: nn.Module, run: Callable[[], Mapping[str, Tensor]], term: str, *, gradients: bool = False
) -> Trace:
    """Run the forward pass and the losses again, recorded.

    Args:
        model: names the modules.
        run: returns the losses by name.
        term: the loss in question.
        gradients: also run its backward pass and note every tensor's gradient.
    """
    recorder = FlowRecorder(model, gradients)
    with recorder:
        losses = run()
    target = losses[term]
    trace = Trace(recorder, target)
    if gradients and target.requires_grad:
        parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
        found = torch.autograd.grad(target, parameters, allow_unused=True)
        for parameter, gradient in zip(parameters, found, strict=True):
            if gradient is not None:
                recorder.take(recorder.number(parameter), gradient)
    return trace


def why_missing(trace: Trace, sources: Collection[Tensor], *, zeros: bool) -> str:
    """Say where the way from `sources` (parameters without a gradient) to the loss is cut.

    Args:
        trace: recorded with its gradients.
        sources: parameters.
        zeros: whether they have a gradient of zeros, which no cut but a flat operation makes.
    """
    if not any(source.requires_grad for source in sources):
        return "the parameters don't require a gradient (requires_grad is False)"
    path, after = trace.between(sources)
    if not path:
        left = [
            operation
            for operation in trace.operations
            if operation.name in LEAVES_TORCH and operation.needed and after.intersection(operation.inputs)
        ]
        if left:
            return f"the value leaves torch: {_named(left)}"
        if not any(trace.goal in operation.outputs for operation in trace.operations):
            return "the loss wasn't made by this forward pass: it holds a tensor of an earlier one"
        return "nothing that the loss reads was made with these parameters: they are unused"

    flat = _where_flat(trace, path, after)
    if zeros and flat:
        return f"the gradient becomes zero at {_named(flat)}"

    def lost(operation: Operation, inputs: set[int]) -> bool:
        return bool(operation.needed & inputs) and not operation.graph

    cuts = trace.nearest(path, after, lost)
    if cuts:
        return f"cut at {_named(cuts)}"
    return f"the gradient becomes zero at {_named(flat)}" if flat else "the place wasn't found"


def _where_flat(trace: Trace, path: Collection[int], after: set[int]) -> list[Operation]:
    """Return the operations nearest to the loss that are given a gradient and hand on zeros."""
    largest = trace.recorder.largest

    def zeroed(operation: Operation, inputs: set[int]) -> bool:
        alive = any(largest.get(number, 0.0) > 0 for number in operation.outputs)
        alive = alive or trace.goal in operation.outputs
        return alive and not any(largest.get(number, 0.0) > 0 for number in inputs)

    return trace.nearest(path, after, zeroed)


def silent_writes(operations: Collection[Operation]) -> str:
    """Name what writes values behind the graph's back: its gradient is there, and it is wrong.

    That is writing in place where gradients are off, or into what `detach` or `data` returned: both share
    their memory with a tensor that has a gradient.
    """
    shared, found = set[int](), []
    for operation in operations:
        if operation.name in ("detach", "data") and operation.needed:
            shared.update(operation.outputs)
        if operation.in_place:
            target = set(operation.inputs[:1])
            if shared & target or (operation.no_grad is not None and operation.needed & target):
                found.append(operation)
    return _named(found) if found else ""


def why_leaking(trace: Trace, sources: Collection[Tensor], task: str) -> str:
    """Say where what `sources` made enters the loss of `task`."""
    path, _ = trace.between(sources)
    places = [(trace.operations[number], trace.operations[number].place) for number in path]
    own = [
        operation
        for operation, place in places
        if place is not None and place.module.startswith(f"{task}_head")
    ]
    entering = own or [operation for operation, place in places if place is not None][-1:]
    return f"it comes in at {_named(entering[:1])}" if entering else "the place wasn't found"


def why_not_finite(trace: Trace) -> str:
    """Say which operation made the first infinite or NaN value or, going backwards, gradient."""
    finite = trace.recorder.finite
    for operation in trace.operations:
        if any(not finite.get(number, True) for number in operation.outputs) and all(
            finite.get(number, True) for number in operation.inputs
        ):
            if not finite.get(trace.goal, True):
                return f"the first value that isn't finite comes from {operation}"
    largest = trace.recorder.largest
    broken = {number for number, value in largest.items() if not math.isfinite(value)}
    readers: dict[int, list[Operation]] = {}
    for operation in trace.operations:
        for number in broken.intersection(operation.inputs):
            readers.setdefault(number, []).append(operation)
    # a tensor whose readers all got finite gradients got its own from one of them
    made = [found for found in readers.values() if not any(broken.intersection(op.outputs) for op in found)]
    if made:
        return f"the first gradient that isn't finite comes from {_named(made[-1])}"
    return "the place wasn't found"


def _named(operations: Collection[Operation]) -> str:
    texts = list(dict.fromkeys(str(operation) for operation in operations))
    rest = f" and {len(texts) - MOST} more" if len(texts) > MOST else ""
    return "; ".join(texts[:MOST]) + rest
