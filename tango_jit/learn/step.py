"""One training step: a random batch of the buffer, its gradient, Adam, the average of the weights.

Nothing in it waits for the device, so that on a GPU it is recorded once and launched as one (see graphs.py): a step
that is not finite is undone by numbers, not by a decision here.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from tango_jit.learn import noise2inverse
from tango_jit.learn.folded import Folded
from tango_jit.learn.graphs import recorded
from tango_jit.learn.pair_buffer import PairBuffer
from tango_jit.learn.precision import arithmetic
from tango_jit.learn.settings import TrainerSettings
from tango_jit.learn.vector import Layout

WARM = 50  # steps over which the first ones grow to their full size: Adam knows nothing of the gradients yet
EMA_START = 10  # in the n-th step the average keeps at most n/(n + 10) of what it was, so it soon forgets the start


@dataclass(frozen=True)
class Progress:
    """What steps have come to. On a GPU that of some steps ago: nothing waits for the last ones."""

    loss: float = math.nan
    """Of the last step that was taken; NaN before."""
    last: float = math.nan
    """Of the last step, taken or not."""
    taken: int = 0
    rejected: int = 0


class Step:
    """Trains one vector of weights (n,): after `use` call it for a step. `seed`: of the draws."""

    def __init__(self, settings: TrainerSettings, layout: Layout, vector: Tensor, seed: int) -> None:
        device = vector.device
        self.average = vector.detach().clone()
        """The averaged weights (n,)."""
        self._layout, self._vector = layout, vector.detach().clone().requires_grad_()
        self._generator = torch.Generator(device).manual_seed(seed)
        on_gpu = device.type == "cuda"
        rate = torch.tensor(settings.learning_rate, device=device) if on_gpu else settings.learning_rate
        self._optimizer = torch.optim.Adam([self._vector], rate, fused=True, capturable=on_gpu)
        self._status = torch.tensor([math.nan, math.nan, 0.0, 0.0], dtype=torch.float64, device=device)
        self._told: _Told | None = _Told(self._status) if on_gpu else None
        self.trouble = ""
        """Why steps are no CUDA graph on a GPU; empty: they are, or this is none."""

    def use(self, settings: TrainerSettings, buffer: PairBuffer, scale: float) -> None:
        """Go on with these settings and pairs, which are divided by `scale`; the network's shape stays."""
        self._settings, self._buffer, self._scale = settings, buffer, scale
        self._dtype = arithmetic(settings.precision, self._vector.device)
        self._run: Callable[[], None] | None = None

    def set_number(self, name: str, value: float) -> None:
        """Set one number of the network that is not trained."""
        for vector in (self._vector.detach(), self.average):
            self._layout.tensors(vector)[name].fill_(value)

    def __call__(self) -> None:
        if self._told is None:
            self._work()
            return
        if self._run is None:
            self._run = self._recorded()
        self._run()
        self._told.ask()

    @property
    def progress(self) -> Progress:
        loss, last, taken, rejected = self._status.tolist() if self._told is None else self._told.newest()
        return Progress(loss, last, int(taken), int(rejected))

    def _warm_up(self) -> None:
        """Set the size of the next step."""
        part = ((self._status[2] + 1) / WARM).clamp(max=1)
        for group in self._optimizer.param_groups:
            if isinstance(group["lr"], Tensor):
                group["lr"].copy_(part * self._settings.learning_rate)
            else:
                group["lr"] = float(part) * self._settings.learning_rate

    def _work(self) -> None:
        self._warm_up()
        batch = self._buffer.draw(self._settings.batch_size, self._generator)
        batch[:, :2] /= self._scale
        u, v, weights = noise2inverse.draw_directions(batch, self._generator, self._settings.network.shown)
        network, task = self._settings.network, self._settings.network.learns
        output = Folded(network, self._layout.tensors(self._vector.to(self._dtype)), self._dtype)(u)
        numbers = self._layout.tensors(self._vector.detach())  # as they are: rounded they are others
        output, target, weights = (
            noise2inverse.valid(part, self._settings.halo) for part in (output, task.target(v, numbers), weights)
        )
        loss = task.loss(output, target, weights, numbers)
        (self._vector.grad,) = torch.autograd.grad(loss, self._vector)
        loss = loss.detach()
        good = torch.isfinite(loss + self._vector.grad.norm())
        # What PyTorch's own scaler of gradients tells Adam: 1 to leave everything as it is.
        self._optimizer.found_inf = (~good).float()  # pyright: ignore[reportAttributeAccessIssue]
        self._optimizer.step()
        self._status[0] = torch.where(good, loss, self._status[0])
        self._status[1] = loss
        self._status[2] += good
        self._status[3] += ~good
        taken = self._status[2]
        keep = torch.clamp(taken / (taken + EMA_START), max=self._settings.ema)
        self.average.lerp_(self._vector.detach(), ((1 - keep) * good).float())

    def _recorded(self) -> Callable[[], None]:
        """`_work` as a CUDA graph; what it learned while it was recorded is forgotten."""
        state = self._optimizer.state[self._vector]
        learned = [self._vector.detach(), self.average, self._status]
        before = [tensor.clone() for tensor in learned]
        moments = {name: tensor.clone() for name, tensor in state.items()}
        draws = self._generator.get_state()
        run, self.trouble = recorded(self._work, self._generator)
        for tensor, old in zip(learned, before, strict=True):
            tensor.copy_(old)
        for name, tensor in self._optimizer.state[self._vector].items():
            tensor.copy_(moments[name]) if name in moments else tensor.zero_()
        self._generator.set_state(draws)
        return run


class _Told:
    """Numbers on a GPU, read without waiting for it."""

    def __init__(self, source: Tensor) -> None:
        self._source = source
        self._arriving = source.cpu().pin_memory()
        self._newest: list[float] = source.tolist()
        self._event: torch.cuda.Event | None = None

    def ask(self) -> None:
        """Have them copied, unless an earlier copy is still under way."""
        self.newest()
        if self._event is None:
            self._arriving.copy_(self._source, non_blocking=True)
            self._event = torch.cuda.Event()
            self._event.record()

    def newest(self) -> list[float]:
        """The last ones that have arrived."""
        if self._event is not None and self._event.query():
            self._newest, self._event = self._arriving.tolist(), None
        return self._newest
