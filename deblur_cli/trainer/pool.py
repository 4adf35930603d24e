"""Photographs blurred by other processes while the net trains: a pool of ready pairs that is slowly renewed.

Blurring costs a CPU about as much as a training step on the same pixels, so a pair is larger than a crop and is used several
times, each time another part of it, turned another way. Every slot of the batch has its own pairs, numbered by generation;
every ``reuse`` steps a new generation enters the window from which crops are drawn and the oldest leaves it. Which pair a step
uses, and what is in it, follows from the seed alone: neither the number of workers nor a resumed run changes a bit.
"""

import os
import signal
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import get_context, parent_process

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from deblur_cli.errors import DeviceError
from deblur_cli.files.kernels import Kernel
from deblur_cli.files.photos import Album
from deblur_cli.pixels import blurring
from deblur_cli.trainer import sources

_Pixels = NDArray[np.uint8]
_AHEAD = 24
"""Steps whose pairs are ordered in advance."""
_FIRST = 32
"""Generations that the window begins with."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolDials:
    """How the pool is kept."""

    pairs: int = 1024
    """Pairs held at a time, over all slots of the batch."""
    reuse: int = 8
    """How often a pair is used on average."""
    room: int = 96
    """Pixels by which a pair is larger than a crop."""
    workers: int = 2
    """Processes that blur; 0 blurs in the process that trains."""


class PooledPhotos:
    """Pairs made of photographs, on the CPU."""

    on_device = False

    def __init__(
        self,
        album: Album,
        recipe: blurring.Recipe,
        dials: PoolDials,
        *,
        crop: int,
        batch: int,
        slots: range,
        seed: int,
        kernels: Sequence[Kernel] = (),
    ) -> None:
        self._album = album
        self._recipe = recipe
        self._kernels = kernels
        self._crop = crop
        self._slots = slots
        self._seed = seed
        self._reuse = dials.reuse
        self._depth = max(1, dials.pairs // batch)
        smallest = min(min(photograph.pixels.shape[:2]) for photograph in album.photographs)
        self._side = min(crop + dials.room + 2 * blurring.margin(recipe), smallest)
        self._pairs: dict[tuple[int, int], Future[tuple[_Pixels, _Pixels]]] = {}
        self._workers = _processes(dials.workers) if dials.workers else None
        self.threads = 1 if self._workers else 0
        self._ordered = 0

    def batch(self, step: int) -> tuple[Tensor, Tensor]:
        """Blurred and sharp, (N, 3, crop, crop) float32 in [0, 1]."""
        self._order(step)
        if self._workers:
            for ahead in range(max(step, self._ordered) + 1, step + _AHEAD):
                self._order(ahead)
            self._ordered = max(self._ordered, step + _AHEAD - 1)
        blurred: list[_Pixels] = []
        sharp: list[_Pixels] = []
        for slot in self._slots:
            generation, luck = self._chosen(step, slot)
            try:
                pair = self._pairs[generation, slot].result()
            except BrokenProcessPool as error:
                raise DeviceError(
                    "A process that blurs photographs was killed, perhaps for want of memory.",
                    "Choose fewer --workers or a smaller --pool-size; --resume goes on.",
                ) from error
            turn = sources.Turn.draw(pair[1].shape, self._crop, luck)
            blurred.append(turn.of(pair[0], self._crop))
            sharp.append(turn.of(pair[1], self._crop))
        self._forget(step)
        return sources.stack(blurred), sources.stack(sharp)

    def close(self) -> None:
        """End the workers."""
        if self._workers:
            self._workers.shutdown(wait=True, cancel_futures=True)

    def _window(self, step: int) -> tuple[int, int]:
        """The generations that a step may use: first, and one after the last."""
        last = min(self._depth, _FIRST) + step // self._reuse
        return max(0, last - self._depth), last

    def _chosen(self, step: int, slot: int) -> tuple[int, np.random.Generator]:
        """The generation that one item uses, and the chance that decides the rest."""
        luck = sources.item_chance(self._seed, step, slot)
        return int(luck.integers(*self._window(step))), luck

    def _order(self, step: int) -> None:
        for slot in self._slots:
            generation, _ = self._chosen(step, slot)
            if (generation, slot) not in self._pairs:
                self._pairs[generation, slot] = self._begin(generation, slot)

    def _begin(self, generation: int, slot: int) -> Future[tuple[_Pixels, _Pixels]]:
        sharp, other = (
            np.ascontiguousarray(piece)
            for piece in sources.pieces(self._album, self._side, self._seed, generation, slot)
        )
        kernel = sources.kernel(self._kernels, self._seed, generation, slot)
        task = (sharp, other, self._side, self._recipe, kernel, self._seed, generation, slot)
        if self._workers:
            return self._workers.submit(_make, *task)
        done: Future[tuple[_Pixels, _Pixels]] = Future()
        threads = torch.get_num_threads()
        torch.set_num_threads(1)  # as in a worker: the order of a sum must not depend on where it is taken
        done.set_result(_make(*task))
        torch.set_num_threads(threads)
        return done

    def _forget(self, step: int) -> None:
        first, _ = self._window(step)
        for key in [key for key in self._pairs if key[0] < first]:
            del self._pairs[key]


def _make(
    sharp: _Pixels,
    other: _Pixels,
    side: int,
    recipe: blurring.Recipe,
    kernels: Sequence[Kernel],
    seed: int,
    generation: int,
    slot: int,
) -> tuple[_Pixels, _Pixels]:
    """One pair, (H, W, 3) each."""
    with torch.inference_mode():
        scene, things = (sources.reduced(sources.stack([square]), side).contiguous() for square in (sharp, other))
        lot = sources.generator(seed, generation, slot)
        pair = blurring.blur(scene, things, recipe, lot, [torch.from_numpy(kernel) for kernel in kernels])
        blurred, still = (
            np.ascontiguousarray(image[0].permute(1, 2, 0).mul(255).round_().clamp_(0, 255).byte().numpy())
            for image in pair
        )
    return blurred, still


def _processes(count: int) -> ProcessPoolExecutor:
    # spawn: a forked child would inherit the locks of torch's threads.
    return ProcessPoolExecutor(count, mp_context=get_context("spawn"), initializer=_settle_in)


def _settle_in() -> None:
    """Make a worker one quiet thread that ends when its parent does, however that ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(1)
    if hasattr(os, "setpgid"):
        # What is sent to the whole group is for the parent to act on: it saves with its workers alive.
        os.setpgid(0, 0)
        os.nice(5)
    parent = parent_process()
    if parent is not None:
        threading.Thread(target=_follow, args=(parent.join,), daemon=True).start()


def _follow(join: Callable[[], None]) -> None:
    join()
    os._exit(1)
