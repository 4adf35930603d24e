"""Ways to run one net on tiles of few shapes: plainly, recorded as a CUDA graph, or compiled."""

from collections import Counter
from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from deblur_cli.deblurrer.compiling import prepare, quietly

_PAYS = 3
"""Runs of one shape after which it is recorded: recording costs about as much as two."""
_SMALL = 2**22
"""Pixels at once beyond which the host is quicker to launch the work than the GPU to do it, and recording gains nothing. An
estimate: some 300 kernels at 5 to 10 microseconds against a few milliseconds for each 4 megapixels."""
_SHAPES = 4
"""Shapes that are recorded or compiled; the next ones run plainly, or a folder of odd sizes would be compiled all day."""
HELD = 1.3
"""Times the numbers that a net counts, when it is compiled: 185 bytes per pixel of the default net in bf16 in place of 123,
measured as below."""

Net = Callable[[Tensor], Tensor]
"""(N, 3, H, W) blurred to restored."""


class Runner(Protocol):
    """A net that can be called; what it returns is valid until the next call."""

    @property
    def fixed(self) -> bool:
        """Whether it pays that all batches have one shape."""
        ...

    def __call__(self, blurred: Tensor) -> Tensor:
        """(N, 3, H, W) to the restored image, the same shape."""
        ...

    def forget(self) -> None:
        """Give back memory that is kept between calls."""
        ...


def runner_of(net: nn.Module, device: torch.device, *, compiled: bool | None) -> Runner:
    """The way to run ``net`` on ``device``.

    Args:
        net: settled on the device.
        device: whose it is.
        compiled: True: by ``torch.compile``; False: plainly; None: as a CUDA graph on CUDA, plainly elsewhere.

    On a CPU None does not compile, whatever there is to do. Measured with torch 2.15 and the default net in bf16, tiles of
    1024 x 1024 pixels, one thread of a Zen 5 server processor: 0.98 s plainly, 0.85 s compiled, a ratio of 1.15.
    Against that stood some 80 s of processor time (314 s on a busy machine) to compile it for the first time, and 10 s (33 s)
    to fetch it from the cache in a second process: 600 and 75 megapixels of tiles of one shape, respectively.
    """
    if compiled:
        return Compiled(net, device)
    if compiled is None and device.type == "cuda":
        return Graphed(net, record)
    return Plain(net)


class Plain:
    """Operation after operation, as the net's code has it."""

    fixed = False

    def __init__(self, net: nn.Module) -> None:
        self._net = net

    def __call__(self, blurred: Tensor) -> Tensor:
        """See :class:`Runner`."""
        return self._net(blurred)[0]

    def forget(self) -> None:
        """See :class:`Runner`; nothing is kept."""


class Graphed:
    """The net recorded for the first shapes that come often, and played back: the GPU need not wait for the host.

    A recording holds the memory of its feature maps. A net that cannot be recorded, because it asks for values on its way,
    runs plainly; so does every net once memory was short.
    """

    fixed = False

    def __init__(self, net: nn.Module, record: Callable[[nn.Module, Tensor], Net]) -> None:
        """``record`` gives a function for tensors like the one it is shown; a RuntimeError says that the net cannot be."""
        self._net = net
        self._record = record
        self._seen: Counter[Any] = Counter()
        self._recorded: dict[Any, Net] = {}
        self._able = True

    def __call__(self, blurred: Tensor) -> Tensor:
        """See :class:`Runner`."""
        key = (blurred.shape, blurred.stride())
        if key in self._recorded:
            return self._recorded[key](blurred)
        self._seen[key] += 1
        if self._seen[key] <= _PAYS or not self._able or blurred[:, 0].numel() > _SMALL:
            return self._net(blurred)[0]
        try:
            self._recorded[key] = self._record(self._net, blurred)
        except torch.OutOfMemoryError:
            raise
        except RuntimeError:
            self._able = False
            return self._net(blurred)[0]
        self._able = len(self._recorded) < _SHAPES
        return self._recorded[key](blurred)

    def forget(self) -> None:
        """See :class:`Runner`."""
        self._recorded.clear()
        self._able = False


def record(net: nn.Module, like: Tensor) -> Net:
    """A CUDA graph of ``net`` for tensors of the shape, strides and device of ``like``; not measured, see ``CudaLane``.

    Raises:
        RuntimeError: the net does something that cannot be recorded.
    """
    device = like.device
    given = torch.empty_like(like).copy_(like)
    graph = torch.cuda.CUDAGraph()
    with Constants(), torch.cuda.device(device):
        # Once on a stream of its own, as torch's notes on CUDA graphs ask: libraries choose their algorithms there.
        aside = torch.cuda.Stream(device)
        aside.wait_stream(torch.cuda.current_stream(device))
        with torch.cuda.stream(aside):
            net(given)
        torch.cuda.current_stream(device).wait_stream(aside)
        with torch.cuda.graph(graph):
            made = net(given)[0]

    def play(blurred: Tensor) -> Tensor:
        given.copy_(blurred)
        graph.replay()
        return made

    return play


class Constants(TorchFunctionMode):
    """Within it, ``torch.tensor`` of the same numbers gives the same tensor: a graph cannot fetch them from the host."""

    def __init__(self) -> None:
        super().__init__()
        self._made: dict[str, Any] = {}

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """What torch calls in place of ``func``."""
        if func is not torch.tensor:
            return func(*args, **(kwargs or {}))
        key = repr((args, kwargs))
        if key not in self._made:
            self._made[key] = func(*args, **(kwargs or {}))
        return self._made[key]


class Compiled:
    """The net compiled for each of the first shapes that come; what is compiled is kept on disk for the next process."""

    fixed = True

    def __init__(
        self, net: nn.Module, device: torch.device, compile_: Callable[[nn.Module], Any] | None = None
    ) -> None:
        self._net = net
        self._compiled: Callable[[Tensor], Any] = (compile_ or prepare(device))(net)
        self._shapes: set[torch.Size] = set()

    def __call__(self, blurred: Tensor) -> Tensor:
        """See :class:`Runner`.

        Raises:
            DeviceError: this machine cannot compile.
        """
        if blurred.shape in self._shapes:
            return self._compiled(blurred)[0]
        if len(self._shapes) >= _SHAPES:
            return self._net(blurred)[0]
        with quietly():
            made = self._compiled(blurred)[0]
        self._shapes.add(blurred.shape)
        return made

    def forget(self) -> None:
        """See :class:`Runner`; the code is small."""
