"""The sum rule: the gradient of a step is the lambda-weighted sum of the tasks' own gradients."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping

import torch
from torch import Tensor

from mtltrack.training.audit.readings import Limits, norm_of
from mtltrack.training.audit.report import Finding, Weight

Gradients = Mapping[str, Tensor]  # by parameter; absent: zero


def dot(one: Gradients, other: Gradients, names: Collection[str] | None = None) -> float:
    """Return the scalar product of two gradients, over some parameters or over all that both have."""
    chosen = (one.keys() & other.keys()) if names is None else [n for n in names if n in one and n in other]
    return math.fsum(float((one[name].double() * other[name].double()).sum()) for name in chosen)


def cosines(tasks: Mapping[str, Gradients]) -> dict[tuple[str, str], float]:
    """Return the cosine of each pair of tasks' gradients, over the parameters that both reach."""
    found = {}
    names = list(tasks)
    for i, one in enumerate(names):
        for other in names[i + 1 :]:
            shared = tasks[one].keys() & tasks[other].keys()
            sizes = [norm_of(tasks[task][name] for name in shared) for task in (one, other)]
            if all(size > 0 for size in sizes):
                found[one, other] = dot(tasks[one], tasks[other], shared) / (sizes[0] * sizes[1])
    return found


def weighted_sum(tasks: Mapping[str, Gradients], weights: Mapping[str, float]) -> dict[str, Tensor]:
    """Return sum_k weights[k] * tasks[k]."""
    total: dict[str, Tensor] = {}
    for task, gradients in tasks.items():
        for name, gradient in gradients.items():
            share = weights[task] * gradient
            total[name] = total[name] + share if name in total else share
    return total


def measured_weights(total: Gradients, tasks: Mapping[str, Gradients]) -> dict[str, float]:
    """Return how often each task's gradient stands in the total's.

    Where a task reaches parameters that no other one does, these tell it exactly; else the least squares over
    all of them do. NaN where a task has no gradient.
    """
    found: dict[str, float] = {}
    for task, gradients in tasks.items():
        others = {name for other, values in tasks.items() if other != task for name in values}
        alone = [name for name in gradients if name not in others]
        size = dot(gradients, gradients, alone)
        if size > 0:
            found[task] = dot(gradients, total, alone) / size
    if len(found) < len(tasks):
        fitted = _least_squares(total, tasks)
        found = {task: found.get(task, fitted[task]) for task in tasks}
    return found


def _least_squares(total: Gradients, tasks: Mapping[str, Gradients]) -> dict[str, float]:
    sizes = {task: norm_of(values.values()) for task, values in tasks.items()}
    names = [task for task, size in sizes.items() if size > 0]
    gram = torch.tensor(
        [[dot(tasks[a], tasks[b]) / (sizes[a] * sizes[b]) for b in names] for a in names], dtype=torch.float64
    )
    right = torch.tensor([dot(tasks[a], total) / sizes[a] for a in names], dtype=torch.float64)
    solution = torch.linalg.lstsq(gram, right[:, None]).solution[:, 0] if names else right
    found = dict.fromkeys(tasks, math.nan)
    found.update({task: float(value) / sizes[task] for task, value in zip(names, solution, strict=True)})
    return found


def relative_difference(one: Gradients, other: Gradients) -> float:
    """Return |one - other| / |other| over all parameters; absent ones are zero."""
    differences = [one[name] - other[name] for name in one.keys() & other.keys()]
    differences += [one[name] for name in one.keys() - other.keys()]
    differences += [other[name] for name in other.keys() - one.keys()]
    size = norm_of(other.values())
    return norm_of(differences) / size if size > 0 else (math.inf if norm_of(differences) > 0 else 0.0)


def check_sum(
    total: Gradients, tasks: Mapping[str, Gradients], lambdas: Mapping[str, float], limits: Limits
) -> tuple[list[Weight], float, list[Finding]]:
    """Hold the gradient of a step against the sum that it should be.

    Returns:
        each task's lambda as configured and as measured, the relative difference, and what is wrong.
    """
    measured = measured_weights(total, tasks)
    weights = [Weight(task, lambdas[task], measured[task]) for task in tasks]
    difference = relative_difference(total, weighted_sum(tasks, lambdas))
    findings = list(_wrong_weights(weights, limits))
    if not findings and difference > limits.sum_rule:
        worst = max(total, key=lambda name: norm_of([total[name]]), default="nothing")
        message = (
            f"it differs from the weighted sum of the tasks' gradients by {difference:.1%}, though each "
            f"task's share is right: something else is in the loss or the gradients (largest at {worst})"
        )
        findings.append(Finding("sum rule", "the gradient of a step", message))
    return weights, difference, findings


def _wrong_weights(weights: Collection[Weight], limits: Limits) -> Iterator[Finding]:
    for weight in weights:
        wanted, found = weight.configured, weight.measured
        if math.isnan(found) or abs(found - wanted) <= limits.weight * max(abs(wanted), 1e-3):
            continue
        message = f"its gradient stands in the step's {found:.4g} times, and lambda is {wanted:.4g}"
        if wanted != 0 and abs(found - wanted**2) <= limits.weight * wanted**2:
            message += ": lambda is applied twice"
        yield Finding("lambda", weight.task, message)
