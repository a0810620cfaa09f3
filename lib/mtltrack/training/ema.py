"""A moving average of the weights, kept beside those that train."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn


class _Some(nn.Module):
    """Some parameters and buffers of a model, the same objects."""

    def __init__(self, parameters: list[nn.Parameter], buffers: list[Tensor]) -> None:
        super().__init__()
        self.listed = nn.ParameterList(parameters)
        for number, buffer in enumerate(buffers):
            self.register_buffer(str(number), buffer)


class WeightAverage:
    """The exponential moving average of what trains: average = decay * average + (1 - decay) * weights.

    It is torch's `AveragedModel`, over the parameters that train and the running statistics of the batch
    norms that train; frozen parts are their own average and cost nothing. A part that begins to train in a
    later stage begins its average with its weights; one that no longer trains comes to rest at them.

    Args:
        decay: TRAIN.EMA, share of the average that stays at each step.
    """

    def __init__(self, decay: float) -> None:
        self.decay = decay
        self._live: dict[str, Tensor] = {}
        self._loaded: Mapping[str, Tensor] = {}  # what a resumed run brings, until `follow` takes it up
        self._some = _Some([], [])
        self._average = self._averaged()

    def _averaged(self) -> AveragedModel:
        average = AveragedModel(self._some, multi_avg_fn=get_ema_multi_avg_fn(self.decay), use_buffers=True)
        average.n_averaged += 1  # it begins with the weights as they are now, not after the next step
        return average

    def follow(self, model: nn.Module) -> None:
        """Take up what trains from now on.

        Args:
            model: without wrapper, on its device, with its parts frozen as the stage wants them.
        """
        known = {**self._loaded, **self.state_dict()}
        parameters = {
            name: parameter
            for name, parameter in model.named_parameters()
            if parameter.requires_grad or name in known
        }
        statistics = {
            f"{prefix}.{name}" if prefix else name
            for prefix, module in model.named_modules()
            if isinstance(module, _BatchNorm) and module.training
            for name, buffer in module.named_buffers(recurse=False)
            if buffer.is_floating_point()
        }
        buffers = {
            name: buffer for name, buffer in model.named_buffers() if name in statistics or name in known
        }
        self._live = {**parameters, **buffers}
        self._some = _Some(list(parameters.values()), list(buffers.values()))
        self._average = self._averaged()
        with torch.no_grad():
            for name, average in self.state_dict().items():
                if name in known:
                    average.copy_(known[name])
        self._loaded = {}

    def update(self) -> None:
        """Take in the weights after a step."""
        self._average.update_parameters(self._some)

    def state_dict(self) -> dict[str, Tensor]:
        """Return the averages by the names of their weights."""
        module = self._average.module
        return dict(zip(self._live, [*module.parameters(), *module.buffers()], strict=True))

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Go on from averages, which the next `follow` takes up."""
        self._loaded = dict(state)

    def weights(self, model: nn.Module) -> dict[str, Tensor]:
        """Return the model's state dict with the averages in place of what trains."""
        return {**model.state_dict(), **self.state_dict()}

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Put the averages into the model, and the weights back afterwards."""
        self._exchange()
        try:
            yield
        finally:
            self._exchange()

    def _exchange(self) -> None:
        for name, average in self.state_dict().items():
            live = self._live[name]
            live.data, average.data = average.data, live.data
            torch.autograd.graph.increment_version(live)  # layers that keep weights packed look at it
