"""DeepDeblur against the same written as functions of a state dict, with the authors' names."""

from collections.abc import Mapping

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from deblur_cli.nets.deepdeblur import DeepDeblur, DeepDeblurConfig, halve
from deblur_cli.nets.prior import PriorConfig


def published(blocks: int) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the authors' tensors."""
    shapes: dict[str, tuple[int, ...]] = {}

    def conv(name: str, channels: int, wide: int) -> None:
        shapes[f"{name}.weight"] = (wide, channels, 5, 5)
        shapes[f"{name}.bias"] = (wide,)

    for scale in range(3):
        body = f"body_models.{scale}.body"
        conv(f"{body}.0", 3 if scale == 2 else 6, 64)
        for block in range(1, blocks + 1):
            conv(f"{body}.{block}.body.0", 64, 64)
            conv(f"{body}.{block}.body.2", 64, 64)
        conv(f"{body}.{blocks + 1}", 64, 3)
    for scale in (1, 2):
        conv(f"conv_end_models.{scale}.uppath.0", 3, 12)
    return shapes


@pytest.mark.parametrize(("blocks", "entries"), [(6, 88), (19, 244)])
def test_tensors_have_the_authors_names_and_shapes(blocks: int, entries: int) -> None:
    with torch.device("meta"):
        net = DeepDeblur(DeepDeblurConfig(blocks=blocks))
    assert {name: tuple(value.shape) for name, value in net.state_dict().items()} == published(blocks)
    assert len(published(blocks)) == entries


def by_hand(state: Mapping[str, Tensor], blurred: Tensor, blocks: int) -> list[Tensor]:
    """The restored images, finest first, from numbers of 0 to 255."""

    def conv(name: str, features: Tensor) -> Tensor:
        return F.conv2d(features, state[f"{name}.weight"], state[f"{name}.bias"], padding=2)

    pyramid = [255 * blurred, 255 * halve(blurred), 255 * halve(halve(blurred))]
    images: list[Tensor] = []
    seen = pyramid[2] - 127.5
    for scale in (2, 1, 0):
        body = f"body_models.{scale}.body"
        features = conv(f"{body}.0", seen)
        for block in range(1, blocks + 1):
            features = features + conv(f"{body}.{block}.body.2", conv(f"{body}.{block}.body.0", features).relu())
        out = conv(f"{body}.{blocks + 1}", features)
        images.insert(0, (out + 127.5) / 255)
        if scale:
            up = F.pixel_shuffle(conv(f"conv_end_models.{scale}.uppath.0", out), 2)
            seen = torch.cat((pyramid[scale - 1] - 127.5, up), dim=1)
    return images


def test_the_net_computes_what_the_paper_says() -> None:
    torch.manual_seed(0)
    net = DeepDeblur(DeepDeblurConfig(blocks=3, width=6)).double().train()
    blurred = torch.rand(2, 3, 12, 20, dtype=torch.float64)
    with torch.no_grad():
        for ours, theirs in zip(net(blurred), by_hand(net.state_dict(), blurred, 3), strict=True):
            torch.testing.assert_close(ours, theirs)
        torch.testing.assert_close(net.eval()(blurred)[0], net.train()(blurred)[0])


@pytest.mark.parametrize("size", [(12, 20), (4, 8), (2, 2)])
def test_the_pyramid_is_a_gaussian_and_a_mean_of_two_by_two(size: tuple[int, int]) -> None:
    ndimage = pytest.importorskip("scipy.ndimage")
    image = np.random.default_rng(0).random(size)
    smooth = ndimage.gaussian_filter(image, 2 / 3, mode="reflect")
    expected = smooth.reshape(size[0] // 2, 2, size[1] // 2, 2).mean((1, 3))
    halved = halve(torch.from_numpy(image)[None, None])[0, 0].numpy()
    np.testing.assert_allclose(halved, expected, atol=1e-12)


def test_the_pyramid_is_that_of_scikit_image() -> None:
    transform = pytest.importorskip("skimage.transform")
    image = np.random.default_rng(0).random((16, 24, 3))
    _, half, quarter = transform.pyramid_gaussian(image, max_layer=2, channel_axis=-1)
    ours = torch.from_numpy(image).permute(2, 0, 1)[None]
    for expected in (half, quarter):
        ours = halve(ours)
        np.testing.assert_allclose(ours[0].permute(1, 2, 0).numpy(), expected, atol=1e-9)


@pytest.mark.parametrize("blocks", [6, 19])
@pytest.mark.parametrize("prior", [None, PriorConfig(widths=(2, 2, 2), channels=(2, 2, 2))])
def test_the_declared_overlap_is_what_a_pixel_sees(blocks: int, prior: PriorConfig | None) -> None:
    config = DeepDeblurConfig(blocks=blocks, width=2, prior=prior)
    net = DeepDeblur(config).eval()
    half = 640
    blurred = torch.rand(1, 3, 4, 2 * half)
    blurred[..., half:] = torch.nan
    with torch.inference_mode():
        far = int(net(blurred)[0].isnan().any(1).any(1)[0, :half].sum())
    assert far <= config.overlap <= far + 16


@pytest.mark.parametrize("dials", [{"blocks": 0}, {"width": 0}])
def test_an_impossible_dial_is_refused(dials: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="positive"):
        DeepDeblurConfig(**dials)
