"""MIMO-UNet against the same written as functions of a state dict, with the authors' names and concatenations."""

from collections.abc import Mapping, Sequence

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from deblur_cli.nets.mimo_unet import MIMOUNet, MIMOUNetConfig
from deblur_cli.nets.prior import PriorConfig


def published(blocks: int) -> dict[str, tuple[int, ...]]:  # noqa: C901  (a list, level by level)
    """Names and shapes of the authors' tensors."""
    shapes: dict[str, tuple[int, ...]] = {}

    def conv(name: str, channels: int, wide: int, kernel: int = 3, *, up: bool = False) -> None:
        shapes[f"{name}.main.0.weight"] = (*((channels, wide) if up else (wide, channels)), kernel, kernel)
        shapes[f"{name}.main.0.bias"] = (wide,)

    for index, width in enumerate((32, 64, 128)):
        for block in range(blocks):
            for half in (0, 1):
                conv(f"Encoder.{index}.layers.{block}.main.{half}", width, width)
                conv(f"Decoder.{2 - index}.layers.{block}.main.{half}", width, width)
    for index, (channels, wide) in enumerate(((3, 32), (32, 64), (64, 128))):
        conv(f"feat_extract.{index}", channels, wide)
    conv("feat_extract.3", 128, 64, 4, up=True)
    conv("feat_extract.4", 64, 32, 4, up=True)
    conv("feat_extract.5", 32, 3)
    for index, wide in enumerate((64, 32)):
        conv(f"Convs.{index}", 2 * wide, wide, 1)
        conv(f"ConvsOut.{index}", 2 * wide, 3)
    for index, wide in enumerate((32, 64)):
        conv(f"AFFs.{index}.conv.0", 224, wide, 1)
        conv(f"AFFs.{index}.conv.1", wide, wide)
    for index, wide in ((1, 128), (2, 64)):
        conv(f"FAM{index}.merge", wide, wide)
        conv(f"SCM{index}.main.0", 3, wide // 4)
        conv(f"SCM{index}.main.1", wide // 4, wide // 2, 1)
        conv(f"SCM{index}.main.2", wide // 2, wide // 2)
        conv(f"SCM{index}.main.3", wide // 2, wide - 3, 1)
        conv(f"SCM{index}.conv", wide, wide, 1)
    return shapes


@pytest.mark.parametrize(("blocks", "entries"), [(8, 244), (20, 532)])
def test_tensors_have_the_authors_names_and_shapes(blocks: int, entries: int) -> None:
    with torch.device("meta"):
        net = MIMOUNet(MIMOUNetConfig(blocks=blocks))
    assert {name: tuple(value.shape) for name, value in net.state_dict().items()} == published(blocks)
    assert len(published(blocks)) == entries


class ByHand:
    """The net as the paper draws it."""

    def __init__(self, state: Mapping[str, Tensor], blocks: int) -> None:
        self.state = state
        self.blocks = blocks

    def conv(self, name: str, features: Tensor, *, relu: bool = True, stride: int = 1) -> Tensor:
        kernel, bias = self.state[f"{name}.main.0.weight"], self.state[f"{name}.main.0.bias"]
        out = F.conv2d(features, kernel, bias, stride=stride, padding=kernel.shape[-1] // 2)
        return out.relu() if relu else out

    def up(self, name: str, features: Tensor) -> Tensor:
        kernel, bias = self.state[f"{name}.main.0.weight"], self.state[f"{name}.main.0.bias"]
        return F.conv_transpose2d(features, kernel, bias, stride=2, padding=1).relu()

    def level(self, name: str, features: Tensor) -> Tensor:
        for block in range(self.blocks):
            inner = self.conv(f"{name}.layers.{block}.main.0", features)
            features = features + self.conv(f"{name}.layers.{block}.main.1", inner, relu=False)
        return features

    def shallow(self, name: str, image: Tensor) -> Tensor:
        features = image
        for index in range(4):
            features = self.conv(f"{name}.main.{index}", features)
        return self.conv(f"{name}.conv", torch.cat((image, features), dim=1), relu=False)

    def attend(self, name: str, features: Tensor, image: Tensor) -> Tensor:
        return features + self.conv(f"{name}.merge", features * image, relu=False)

    def skip(self, name: str, maps: Sequence[Tensor], like: Tensor) -> Tensor:
        resized = [F.interpolate(each, size=like.shape[-2:], mode="nearest") for each in maps]
        return self.conv(f"{name}.conv.1", self.conv(f"{name}.conv.0", torch.cat(resized, dim=1)), relu=False)

    def __call__(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x2 = F.interpolate(x, scale_factor=0.5, mode="nearest")
        x4 = F.interpolate(x2, scale_factor=0.5, mode="nearest")
        res1 = self.level("Encoder.0", self.conv("feat_extract.0", x))
        z = self.attend("FAM2", self.conv("feat_extract.1", res1, stride=2), self.shallow("SCM2", x2))
        res2 = self.level("Encoder.1", z)
        z = self.attend("FAM1", self.conv("feat_extract.2", res2, stride=2), self.shallow("SCM1", x4))
        z = self.level("Encoder.2", z)
        skip1, skip2 = self.skip("AFFs.0", (res1, res2, z), res1), self.skip("AFFs.1", (res1, res2, z), res2)
        z = self.level("Decoder.0", z)
        out4 = self.conv("ConvsOut.0", z, relu=False) + x4
        z = self.conv("Convs.0", torch.cat((self.up("feat_extract.3", z), skip2), dim=1))
        z = self.level("Decoder.1", z)
        out2 = self.conv("ConvsOut.1", z, relu=False) + x2
        z = self.conv("Convs.1", torch.cat((self.up("feat_extract.4", z), skip1), dim=1))
        z = self.level("Decoder.2", z)
        return self.conv("feat_extract.5", z, relu=False) + x, out2, out4


def test_the_net_computes_what_the_paper_says() -> None:
    torch.manual_seed(0)
    net = MIMOUNet(MIMOUNetConfig(width=4, blocks=2)).double().train()
    blurred = torch.rand(2, 3, 12, 20, dtype=torch.float64)
    with torch.no_grad():
        for ours, theirs in zip(net(blurred), ByHand(net.state_dict(), 2)(blurred), strict=True):
            torch.testing.assert_close(ours, theirs)
        torch.testing.assert_close(net.eval()(blurred)[0], net.train()(blurred)[0])


def test_dropout_is_for_training_alone() -> None:
    torch.manual_seed(0)
    plain = MIMOUNet(MIMOUNetConfig(width=4, blocks=1))
    dropping = MIMOUNet(MIMOUNetConfig(width=4, blocks=1, dropout=0.5))
    dropping.load_state_dict(plain.state_dict())
    blurred = torch.rand(1, 3, 12, 20)
    with torch.no_grad():
        assert torch.equal(dropping.eval()(blurred)[0], plain.eval()(blurred)[0])
        assert not torch.equal(dropping.train()(blurred)[0], plain.train()(blurred)[0])


@pytest.mark.parametrize("blocks", [1, 8, 20])
@pytest.mark.parametrize("prior", [None, PriorConfig(widths=(2, 2, 2), channels=(2, 2, 2))])
def test_the_declared_overlap_is_what_a_pixel_sees(blocks: int, prior: PriorConfig | None) -> None:
    config = MIMOUNetConfig(blocks=blocks, width=2, prior=prior)
    net = MIMOUNet(config).eval()
    half = 640
    blurred = torch.rand(1, 3, 4, 2 * half)
    blurred[..., half:] = torch.nan
    with torch.inference_mode():
        far = int(net(blurred)[0].isnan().any(1).any(1)[0, :half].sum())
    assert far <= config.overlap <= far + 24


@pytest.mark.parametrize("dials", [{"width": 3}, {"width": 0}, {"blocks": -1}, {"dropout": 1.0}])
def test_an_impossible_dial_is_refused(dials: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"fits|even"):
        MIMOUNetConfig(**dials)
