"""From the words of a command to batches to train on and views to validate on."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deblur_cli.errors import InputError
from deblur_cli.files import kernels, pairs, photos
from deblur_cli.pixels import blurring, shaking
from deblur_cli.trainer.crew import Crew
from deblur_cli.trainer.folder import FolderPairs, check_sizes
from deblur_cli.trainer.pool import PoolDials, PooledPhotos
from deblur_cli.trainer.shaken import PartlyShaken, ShakenPhotos
from deblur_cli.trainer.sources import DevicePhotos, PairSource
from deblur_cli.trainer.validation import View, from_pairs, from_photos

_PROBED = 2500
"""Images whose header is looked at before a run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DataDials:
    """Which data, and how they are prepared; the names are those of the options of every training command."""

    data: str | None
    dataset: str
    blur_key: str = "blur"
    subset: bool = False
    val: str | None = None
    val_count: int = 24
    val_crop: int = 256
    hold_out: int = 8
    workers: int | None = None
    memory: float = 0.0
    longest: int = 0
    reuse: int = 8
    pool_size: int = 1024
    room: int = 96
    max_blur: float = 40.0
    blur_skew: float = 1.0
    still: float = 0.1
    objects: float = 0.3
    trembling: float = 0.0
    soft: float = 0.0
    noise: float = 0.5
    read_noise: float = 0.01
    jpeg: float = 0.4
    kernels: str | None = None
    kernel_share: float = 0.2
    shaken: float = 0.0
    sharp_at: str = "mean"

    @property
    def recipe(self) -> blurring.Recipe:
        """Of synthesised blur."""
        return blurring.Recipe(
            max_length=self.max_blur, skew=self.blur_skew, kernels=self.kernel_share, **self._of_both()
        )

    @property
    def shaking(self) -> shaking.Shaking:
        """The same, of crops that are shaken as one piece."""
        return shaking.Shaking(longest=self.max_blur, sharp_at=self.sharp_at, soft=self.soft, **self._of_both())

    def _of_both(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in ("still", "objects", "trembling", "noise", "read_noise", "jpeg")}

    @property
    def threads(self) -> int:
        """Workers that read files, as many as the machine allows where nobody said."""
        return min(8, os.cpu_count() or 1) if self.workers is None else self.workers

    @property
    def processes(self) -> int:
        """Workers that blur beside a net that trains on the same processor."""
        return max(1, (os.cpu_count() or 2) // 2) if self.workers is None else self.workers


class Data:
    """The data of a run: found and decoded, not yet cut into batches."""

    def __init__(self, dials: DataDials, *, crop: int, multiple: int) -> None:
        self._dials = dials
        self._crop = crop
        self._multiple = multiple
        self._album: photos.Album | None = None
        self._held_out: photos.Album | None = None
        self._pairs: pairs.Pairs | None = None
        self._kernels: list[kernels.Kernel] = []
        if dials.kernels is not None:
            self._kernels = kernels.load(Path(dials.kernels), largest=2 * blurring.margin(dials.recipe))
        if dials.dataset == "photos":
            self._open_album(Path(dials.data or "."))
        else:
            folder = Path(dials.data) if dials.data else None
            self._pairs = pairs.find(dials.dataset, folder, blur_key=dials.blur_key, subset=dials.subset)
            check_sizes(pairs.spread(self._pairs.pairs, _PROBED), crop)

    def __str__(self) -> str:
        if self._album is None:
            return str(self._pairs)
        aside = len(self._held_out.photographs) if self._held_out else 0
        measured = f", {self._dials.kernel_share:.0%} by {len(self._kernels)} kernels" if self._kernels else ""
        held_out = f", {aside} more held out to validate on" if aside else ""
        return f"{self._album}, blurred on the fly{measured}{held_out}"

    def __len__(self) -> int:
        """Photographs or pairs: what an epoch passes through once."""
        return len(self._album.photographs) if self._album else len(self._pairs.pairs) if self._pairs else 0

    @property
    def album(self) -> photos.Album:
        """The sharp photographs that are not held out.

        Raises:
            ValueError: there are pairs.
        """
        if self._album is None:
            raise ValueError("there are pairs and no photographs")
        return self._album

    @property
    def title(self) -> str:
        """What a checkpoint says it was trained on."""
        if self._pairs is not None:
            return f"{self._pairs.title} ({len(self)} pairs)"
        folder = self._album.folder.resolve().name if self._album else ""
        measured = ""
        if self._dials.kernels is not None:
            name = Path(self._dials.kernels).resolve().name
            measured = f", {self._dials.kernel_share:.0%} of it by {len(self._kernels)} measured kernels ('{name}')"
        blurred = f"synthesised blur of up to {self._dials.max_blur:g} px{measured}"
        return f"{len(self)} sharp photographs ('{folder}') with {blurred}"

    def source(self, *, batch: int, seed: int, crew: Crew, turns: str = "all", kernels_too: bool = False) -> PairSource:
        """The batches of this process.

        Args:
            batch: crops of all processes.
            seed: of everything drawn.
            crew: this process among its peers.
            turns: how crops of pairs are turned; photographs' always are anyhow.
            kernels_too: batches that are shaken tell their kernels.
        """
        slots = crew.shard(batch)
        if self._pairs is not None:
            return FolderPairs(
                self._pairs.pairs,
                crop=self._crop,
                batch=batch,
                slots=slots,
                seed=seed,
                threads=self._dials.threads,
                megabytes=self._dials.memory or _free_megabytes() / 2,
                turns=turns,
            )
        album = self._album
        if album is None:
            raise ValueError("there are neither pairs nor photographs")
        scenes = self._scenes(album, batch=batch, seed=seed, crew=crew)
        if not self._dials.shaken:
            return scenes
        shaken = ShakenPhotos(
            album,
            self._dials.shaking,
            crop=self._crop,
            radius=shaking.MARGIN,
            slots=slots,
            seed=seed,
            device=crew.device,
        )
        return PartlyShaken(scenes, shaken, share=self._dials.shaken, kernels_too=kernels_too)

    def _scenes(self, album: photos.Album, *, batch: int, seed: int, crew: Crew) -> PairSource:
        """Pairs made of photographs, in which the camera turns and things move by themselves."""
        slots = crew.shard(batch)
        if crew.device.type != "cpu":
            return DevicePhotos(
                album,
                self._dials.recipe,
                crop=self._crop,
                slots=slots,
                seed=seed,
                device=crew.device,
                kernels=self._kernels,
            )
        dials = PoolDials(
            pairs=self._dials.pool_size, reuse=self._dials.reuse, room=self._dials.room, workers=self._dials.processes
        )
        return PooledPhotos(
            album,
            self._dials.recipe,
            dials,
            crop=self._crop,
            batch=batch,
            slots=slots,
            seed=seed,
            kernels=self._kernels,
        )

    def views(self) -> list[View]:
        """What the net is validated on: the folder of ``--val``, or photographs that were held out."""
        dials = self._dials
        if dials.val_count == 0:
            return []
        cut = {"side": max(dials.val_crop, self._multiple), "multiple": self._multiple}
        if dials.val is None and self._pairs is not None:
            return from_pairs(self._tested(self._pairs), count=dials.val_count, **cut)
        if dials.val is None:
            return from_photos(self._held_out, dials.recipe, **cut) if self._held_out else []
        folder = Path(dials.val)
        if not folder.is_dir():
            raise InputError(f"'{folder}' is not a folder.", "Name the folder to validate on with --val DIR.")
        if pairs.holds_pairs(folder):
            return from_pairs(pairs.find("pairs", folder, split="test"), count=dials.val_count, **cut)
        smallest = self._multiple + 2 * blurring.margin(dials.recipe)
        album = photos.load(folder, smallest=smallest, threads=max(1, dials.threads))
        chosen = [index * len(album.photographs) // dials.val_count for index in range(dials.val_count)]
        return from_photos(album.part(list(dict.fromkeys(chosen))), dials.recipe, **cut)

    def _tested(self, trained: pairs.Pairs) -> pairs.Pairs:
        """The test split of the data set, where it lies beside what is trained on; else nothing."""
        dials = self._dials
        folder = Path(dials.data) if dials.data else None
        split = "val" if dials.dataset == "reds" else "test"
        try:
            found = pairs.find(dials.dataset, folder, split=split, blur_key=dials.blur_key, subset=True)
        except InputError:
            return pairs.Pairs("nothing", ())
        known = {pair.blurred for pair in trained.pairs}
        return pairs.Pairs(found.title, tuple(pair for pair in found.pairs if pair.blurred not in known))

    def _open_album(self, folder: Path) -> None:
        dials = self._dials
        album = photos.load(
            folder,
            smallest=self._crop + 2 * blurring.margin(dials.recipe),
            longest=dials.longest,
            megabytes=dials.memory,
            threads=max(1, dials.threads),
        )
        count = len(album.photographs)
        aside = min(dials.hold_out, count // 4) if dials.val is None and dials.val_count else 0
        if aside:
            kept_back = {(2 * index + 1) * count // (2 * aside) for index in range(aside)}
            self._held_out = album.part(sorted(kept_back))
            album = album.part([index for index in range(count) if index not in kept_back])
        self._album = album


def _free_megabytes() -> float:
    """Memory that nobody uses, where the system tells; 2 GB where it does not."""
    if "SC_AVPHYS_PAGES" not in getattr(os, "sysconf_names", {}):
        return 2000.0
    return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 1e6


def preview(source: PairSource, sheets: int) -> list[Sequence[Sequence[NDArray[np.uint8]]]]:
    """The first batches of a source as rows of images, blurred beside sharp."""
    made: list[Sequence[Sequence[NDArray[np.uint8]]]] = []
    for step in range(sheets):
        both = source.batch(step)[:2]
        eight = [image.mul(255).round().byte().permute(0, 2, 3, 1).cpu().numpy() for image in both]
        made.append([[np.ascontiguousarray(side[row]) for side in eight] for row in range(len(eight[0]))])
    return made
