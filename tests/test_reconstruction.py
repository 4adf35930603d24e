"""Each net's own loss: against its paper's formula in numpy, with targets made another way, and as training sees it."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from skimage.transform import pyramid_gaussian
from torch import Tensor, nn

from deblur_cli import objective, trainer
from deblur_cli.files import checkpoint
from deblur_cli.nets import NETS, build, to_mapping
from deblur_cli.nets import teacher as teaching
from deblur_cli.nets.bdirnet import BDIRNetConfig
from deblur_cli.nets.deepdeblur import DeepDeblurConfig
from deblur_cli.nets.dmphn import DMPHNConfig
from deblur_cli.nets.hinet import HINetConfig
from deblur_cli.nets.mimo_unet import MIMOUNetConfig
from deblur_cli.nets.mprnet import MPRNetConfig
from deblur_cli.nets.mssnet import MSSNetConfig
from deblur_cli.nets.nafnet import NAFNetConfig
from deblur_cli.nets.prior import PriorConfig
from deblur_cli.nets.srn import SRNConfig
from deblur_cli.nets.teacher import Teacher
from deblur_cli.nets.unet import UNetConfig
from deblur_cli.reconstruction import CHOSEN, RECONSTRUCTIONS
from deblur_cli.trainer.crew import Crew
from deblur_cli.trainer.events import Step

pytestmark = pytest.mark.usefixtures("one_thread")

TINY: dict[str, Any] = {
    "unet": UNetConfig(width=4, blocks=(1, 1, 1)),
    "deepdeblur": DeepDeblurConfig(blocks=2, width=4),
    "mprnet": MPRNetConfig(width=4, growth=2, original_growth=2, original_blocks=1, reduction=2),
    "mimo-unet": MIMOUNetConfig(width=4, blocks=1),
    "mssnet": MSSNetConfig(widths=(4, 5, 6)),
    "srn": SRNConfig(width=4, blocks=1),
    "dmphn": DMPHNConfig(width=4, levels=3),
    "hinet": HINetConfig(width=4, depth=4, normed=(2, 3)),
    "nafnet": NAFNetConfig(width=4, encoder=(1, 1, 1, 1)),
    "bdirnet": BDIRNetConfig(width=4, blocks=(1, 0, 1)),
}
CPU = Crew(torch.device("cpu"))


@pytest.fixture(scope="module")
def teacher() -> Teacher:
    torch.manual_seed(0)
    return teaching.build(teaching.parse("timm:test_resnet"))


def outputs(name: str, dice: np.random.Generator) -> tuple[list[np.ndarray], np.ndarray]:
    """Made-up images of the sizes that the net gives in training, (2, 3, h, w), and a sharp one."""
    torch.manual_seed(0)
    with torch.no_grad():
        images = build(name, to_mapping(TINY[name])).train()(torch.rand(2, 3, 32, 48))
    return [dice.random(image.shape) for image in images], dice.random((2, 3, 32, 48))


def halved(image: np.ndarray, times: int = 1) -> np.ndarray:
    """Bilinear with half-pixel centres and no antialiasing: the mean of the two by two pixels in the middle of each square."""
    side = 2**times
    low, high = side // 2 - 1, side // 2 + 1
    rows, columns = image.shape[-2] // side, image.shape[-1] // side
    squares = image.reshape(*image.shape[:2], rows, side, columns, side)
    return squares[..., low:high, :, low:high].mean(axis=(3, 5))


def corner_to_corner(image: np.ndarray) -> np.ndarray:
    """Half the size, bilinear, the corners' centres on the corners' centres."""
    for axis in (2, 3):
        size = image.shape[axis]
        places = np.linspace(0, size - 1, size // 2)
        low = np.minimum(places.astype(int), size - 2)
        share = (places - low).reshape([-1 if each == axis else 1 for each in range(4)])
        image = np.take(image, low, axis) * (1 - share) + np.take(image, low + 1, axis) * share
    return image


def pyramid(image: np.ndarray) -> list[np.ndarray]:
    made = [list(pyramid_gaussian(each, max_layer=2, channel_axis=0)) for each in image]
    return [np.stack(level) for level in zip(*made, strict=True)]


def l1(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.abs(a - b).mean())


def frequency(a: np.ndarray, b: np.ndarray) -> float:
    spectrum = np.fft.fft2(a - b)
    return float(np.stack([spectrum.real, spectrum.imag]).__abs__().mean())


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    return float((10 * np.log10(1 / (((a - b) ** 2).mean(axis=(1, 2, 3)) + 1e-8))).mean())


def laplacian(image: np.ndarray) -> np.ndarray:
    kernel = np.array([0.05, 0.25, 0.4, 0.25, 0.05])

    def blurred(image: np.ndarray) -> np.ndarray:
        for axis in (2, 3):
            around = np.pad(image, [(2, 2) if each == axis else (0, 0) for each in range(4)], mode="edge")
            image = np.apply_along_axis(lambda line: np.convolve(line, kernel, "valid"), axis, around)
        return image

    sparse = np.zeros_like(image)
    sparse[..., ::2, ::2] = 4 * blurred(image)[..., ::2, ::2]
    return image - blurred(sparse)


def mprnet(a: np.ndarray, b: np.ndarray) -> float:
    edges = laplacian(a) - laplacian(b)
    return float(np.sqrt((a - b) ** 2 + 1e-6).mean() + 0.05 * np.sqrt(edges**2 + 1e-6).mean())


def mse(a: np.ndarray, b: np.ndarray) -> float:
    return float(((a - b) ** 2).mean())


def mimo(a: np.ndarray, b: np.ndarray) -> float:
    return l1(a, b) + 0.1 * frequency(a, b)


def scales(sharp: np.ndarray) -> list[np.ndarray]:
    return [sharp, halved(sharp), halved(sharp, 2)]


FORMULAS: dict[str, tuple[Callable[..., float], Callable[[np.ndarray], list[np.ndarray]]]] = {
    "unet": (l1, lambda sharp: [sharp]),
    "deepdeblur": (lambda a, b: 255 * l1(a, b), pyramid),
    "mprnet": (mprnet, lambda sharp: [sharp] * 3),
    "mimo-unet": (mimo, scales),
    "mssnet": (mimo, lambda sharp: [sharp] * 5 + [corner_to_corner(sharp)]),
    "srn": (mse, scales),
    "dmphn": (mse, lambda sharp: [sharp]),
    "hinet": (lambda a, b: -0.5 * psnr(a, b), lambda sharp: [sharp] * 2),
    "nafnet": (lambda a, b: -psnr(a, b), lambda sharp: [sharp]),
    "bdirnet": (l1, lambda sharp: [sharp]),
}
"""Of each paper: the distance of one image, summed over the images, and what they are compared with."""


def test_every_net_has_a_loss() -> None:
    # The UNet with a motion prior takes no images as small as those of these tests; its loss is the UNet's.
    assert set(RECONSTRUCTIONS) == set(NETS) == {*TINY, "motion-unet"}
    assert RECONSTRUCTIONS["motion-unet"] is RECONSTRUCTIONS["unet"]


@pytest.mark.parametrize("name", TINY)
def test_the_loss_is_the_papers_formula(name: str) -> None:
    images, sharp = outputs(name, np.random.default_rng(0))
    found = RECONSTRUCTIONS[name]([torch.from_numpy(image) for image in images], torch.from_numpy(sharp))
    distance, targets = FORMULAS[name]
    expected = sum(distance(image, target) for image, target in zip(images, targets(sharp), strict=True))
    assert found.item() == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("name", TINY)
def test_every_image_that_a_net_is_trained_by_decides_the_loss(name: str) -> None:
    images, sharp = outputs(name, np.random.default_rng(1))
    tensors = [torch.from_numpy(image).requires_grad_() for image in images]
    RECONSTRUCTIONS[name](tensors, torch.from_numpy(sharp)).backward()
    assert all(tensor.grad is not None and tensor.grad.any() for tensor in tensors)


@pytest.mark.parametrize("loss", CHOSEN)
@pytest.mark.parametrize("name", TINY)
def test_a_loss_of_the_final_image_leaves_no_parameter_without_a_gradient(name: str, loss: str) -> None:
    """A crew of processes would wait for it."""
    torch.manual_seed(0)
    net = build(name, to_mapping(TINY[name]))
    sharp = torch.rand(1, 3, 64, 64)
    restored = net(sharp * 0.5)
    found = CHOSEN[loss](restored, sharp)
    assert torch.equal(found, CHOSEN[loss](restored[:1], sharp))
    found.backward()
    assert [key for key, parameter in net.named_parameters() if parameter.grad is None] == []


class Pairs:
    """One pair of noise and its local mean, again and again."""

    threads = 0
    on_device = False

    def batch(self, step: int) -> tuple[Tensor, Tensor]:
        sharp = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(3))
        return nn.functional.avg_pool2d(sharp, 3, 1, 1), sharp

    def close(self) -> None:
        """Nothing to end."""


@pytest.mark.parametrize("guided", [False, True], ids=["plain", "guided"])
@pytest.mark.parametrize("name", TINY)
def test_every_net_trains_by_its_own_loss(name: str, guided: bool, teacher: Teacher, tmp_path: Path) -> None:
    prior = PriorConfig(widths=teacher.widths, channels=(4, 6, 8), blocks=(1, 0, 1), sat_width=4) if guided else None
    config = replace(TINY[name], prior=prior)
    kind = objective.BlurDistilling if name == "bdirnet" else objective.DeblurObjective
    aim = kind(reconstruction=RECONSTRUCTIONS[name], teacher=teacher if guided else None)
    own = {"rebuilt", "latent", "contrast"} if name == "bdirnet" else set()
    unmoved = None
    for seed in range(6):  # a few ReLUs in a row can all be shut by chance
        torch.manual_seed(seed)
        net: Any = build(name, to_mapping(config))
        before = {key: value.detach().clone() for key, value in net.named_parameters()}
        steps = trained(net, name, aim, tmp_path / str(seed))
        assert [step.skipped for step in steps] == [0, 0, 0]
        assert all(np.isfinite(list(step.losses.values())).all() for step in steps)
        first = steps[0].losses
        assert set(first) == {"total", "reconstruction"} | own | ({"prior"} if guided else set())
        if guided and not own:
            assert first["total"] == pytest.approx(first["reconstruction"] + 0.1 * first["prior"], rel=1e-5)
        # No weight decays here: what has moved had a gradient.
        still = {key for key, value in net.named_parameters() if torch.equal(value, before[key])}
        unmoved = still if unmoved is None else unmoved & still
        if not unmoved:
            break
    assert unmoved == set()


def trained(net: Any, name: str, aim: objective.DeblurObjective, out: Path) -> list[Step]:
    """Three steps of the trainer."""
    label = checkpoint.Label(
        net=name, config=to_mapping(net.config), made_with="a test", licence="none", trained_on="noise"
    )
    plan = trainer.Plan(steps=3, batch=2, rate=1e-3, log_every=1, optimiser="adam", weight_decay=0.0, average=0.0)
    events = list(trainer.fit(net, Pairs(), objective=aim, plan=plan, out=out, label=label, crew=CPU))
    assert checkpoint.load(out / "last.safetensors").label.net == name
    return [event for event in events if isinstance(event, Step)]


def test_blur_distilling_weighs_its_terms() -> None:
    torch.manual_seed(0)
    net = build("bdirnet", to_mapping(TINY["bdirnet"])).train()
    found = objective.BlurDistilling()(net, *Pairs().batch(0))
    terms = found.terms
    total = terms["reconstruction"] + terms["rebuilt"] + 0.1 * terms["latent"] + 0.05 * terms["contrast"]
    torch.testing.assert_close(found.total.detach(), total)
    assert all(value > 0 for value in terms.values())
