"""MSSNet against the same written as functions of a state dict, with the authors' names."""

from collections.abc import Mapping, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from deblur_cli.nets.mssnet import MSSNet, MSSNetConfig
from deblur_cli.nets.prior import PriorConfig

STAGES = ("1_1", "2_1", "2_2", "3_1", "3_2", "3_3")
PRIOR = PriorConfig(widths=(2, 3, 4), channels=(2, 2, 2), blocks=(0, 0, 0))


def published(widths: tuple[int, int, int]) -> dict[str, tuple[int, ...]]:  # noqa: C901  (a list, level by level)
    """Names and shapes of the authors' tensors."""
    fine, middle, coarse = widths
    shapes: dict[str, tuple[int, ...]] = {}

    def conv(name: str, channels: int, wide: int, kernel: int = 1) -> None:
        shapes[f"{name}.weight"] = (wide, channels, kernel, kernel)

    def block(name: str, width: int) -> None:
        conv(f"{name}.body.0", width, width, 3)
        shapes[f"{name}.body.1.weight"] = (1,)
        conv(f"{name}.body.2", width, width, 3)

    for scale, channels in ((1, 12), (2, 12), (3, 3)):
        conv(f"shallow_feat{scale}.0", channels, fine, 3)
        block(f"shallow_feat{scale}.1", fine)
    for stage in STAGES:
        for level, width in enumerate(widths, 1):
            for index in (0, 1):
                block(f"E{stage}.encoder_level{level}.{index}", width)
                block(f"D{stage}.decoder_level{level}.{index}", width)
            if stage != "1_1":
                conv(f"E{stage}.csff_enc{level}", width, width)
                conv(f"E{stage}.csff_dec{level}", width, width)
        conv(f"E{stage}.down12.down.1", fine, middle)
        conv(f"E{stage}.down23.down.1", middle, coarse)
        conv(f"D{stage}.up21.up.1", middle, fine)
        conv(f"D{stage}.up32.up.1", coarse, middle)
        block(f"D{stage}.skip_attn1", fine)
        block(f"D{stage}.skip_attn2", middle)
        conv(f"tail{stage}" if stage[0] == "3" else f"tail{stage}.tail", fine, 3 if stage[0] == "3" else 12, 3)
    for scale in (1, 2):
        conv(f"up_scale{scale}_feat.scaleUp.1", fine, fine)
        conv(f"fusion{scale}{scale + 1}", 2 * fine, fine, 3)
    return shapes


@pytest.mark.parametrize("widths", [(54, 96, 138), (20, 60, 100), (80, 130, 180)])
def test_tensors_have_the_authors_names_and_shapes(widths: tuple[int, int, int]) -> None:
    with torch.device("meta"):
        net = MSSNet(MSSNetConfig(widths=widths))
    assert {name: tuple(value.shape) for name, value in net.state_dict().items()} == published(widths)
    assert len(published(widths)) == 328


class ByHand:
    """The net as the paper draws it."""

    def __init__(self, state: Mapping[str, Tensor]) -> None:
        self.state = state

    def conv(self, name: str, features: Tensor) -> Tensor:
        kernel = self.state[f"{name}.weight"]
        return F.conv2d(features, kernel, padding=kernel.shape[-1] // 2)

    def block(self, name: str, features: Tensor) -> Tensor:
        slope = self.state[f"{name}.body.1.weight"]
        return features + self.conv(f"{name}.body.2", F.prelu(self.conv(f"{name}.body.0", features), slope))

    def shallow(self, scale: int, image: Tensor) -> Tensor:
        return self.block(f"shallow_feat{scale}.1", self.conv(f"shallow_feat{scale}.0", image))

    def encode(self, name: str, features: Tensor, earlier: Sequence[Sequence[Tensor]] = ()) -> list[Tensor]:
        maps: list[Tensor] = []
        for level in (1, 2, 3):
            if level > 1:
                features = F.interpolate(features, scale_factor=0.5, mode="bilinear", align_corners=False)
                features = self.conv(f"{name}.down{level - 1}{level}.down.1", features)
            for index in (0, 1):
                features = self.block(f"{name}.encoder_level{level}.{index}", features)
            for side, seen in zip(("enc", "dec"), earlier, strict=False):
                features = features + self.conv(f"{name}.csff_{side}{level}", seen[level - 1])
            maps.append(features)
        return maps

    def decode(self, name: str, maps: Sequence[Tensor]) -> list[Tensor]:
        made: list[Tensor] = []
        features = maps[2]
        for level in (3, 2, 1):
            if level < 3:
                skip = self.block(f"{name}.skip_attn{level}", maps[level - 1])
                features = self.conv(f"{name}.up{level + 1}{level}.up.1", double(features)) + skip
            for index in (0, 1):
                features = self.block(f"{name}.decoder_level{level}.{index}", features)
            made.insert(0, features)
        return made

    def __call__(self, x: Tensor) -> list[Tensor]:
        half = F.interpolate(x, scale_factor=0.5, mode="bilinear", align_corners=True)
        images: list[Tensor] = []
        encoded: list[Tensor] = []
        decoded: list[Tensor] = []
        for scale, count in ((1, 1), (2, 2), (3, 3)):
            image = half if scale == 1 else x
            features = self.shallow(scale, image if scale == 3 else F.pixel_unshuffle(image, 2))
            if scale > 1:
                enlarged = self.conv(f"up_scale{scale - 1}_feat.scaleUp.1", double(decoded[0]))
                features = self.conv(f"fusion{scale - 1}{scale}", torch.cat((features, enlarged), dim=1))
                encoded, decoded = [double(each) for each in encoded], [double(each) for each in decoded]
            for stage in range(1, count + 1):
                features = decoded[0] if stage > 1 else features
                encoded = self.encode(f"E{scale}_{stage}", features, (encoded, decoded) if scale > 1 else ())
                decoded = self.decode(f"D{scale}_{stage}", encoded)
                if scale == 3:
                    change = self.conv(f"tail{scale}_{stage}", decoded[0])
                else:
                    change = F.pixel_shuffle(self.conv(f"tail{scale}_{stage}.tail", decoded[0]), 2)
                images.insert(0, image + change)
        return images


def double(features: Tensor) -> Tensor:
    return F.interpolate(features, scale_factor=2, mode="bilinear", align_corners=False)


def test_the_net_computes_what_the_paper_says() -> None:
    torch.manual_seed(0)
    net = MSSNet(MSSNetConfig(widths=(4, 5, 6))).double().train()
    blurred = torch.rand(2, 3, 32, 48, dtype=torch.float64)
    with torch.no_grad():
        expected = ByHand(net.state_dict())(blurred)
        for ours, theirs in zip(net(blurred), expected, strict=True):
            torch.testing.assert_close(ours, theirs)
        torch.testing.assert_close(net.eval()(blurred), (expected[0],))


@pytest.mark.parametrize(("guided", "decoders"), [("all", STAGES), ("scale3", STAGES[3:]), ("last", STAGES[5:])])
def test_the_prior_enters_the_decoders_that_were_chosen(guided: Any, decoders: tuple[str, ...]) -> None:
    net = MSSNet(MSSNetConfig(widths=(4, 5, 6), guided=guided, prior=PRIOR)).eval()
    sizes: list[tuple[int, int]] = []
    for fuse in net.embed.fuse:
        fuse.register_forward_hook(lambda _, inputs, out: sizes.append((inputs[1].shape[1], 32 // out.shape[-1])))
    with torch.no_grad():
        net(torch.rand(1, 3, 32, 32))
    stride = {"1": 4, "2": 2, "3": 1}
    expected = [(width, stride[stage[0]] * times) for stage in decoders for width, times in ((4, 4), (3, 2), (2, 1))]
    assert sizes == expected


@pytest.mark.parametrize("dials", [{"widths": (54, 96)}, {"widths": (0, 1, 1)}, {"guided": "none"}])
def test_an_impossible_dial_is_refused(dials: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(dials))):
        MSSNetConfig(**dials)
