"""MPRNet against the same written as functions of a state dict, with the authors' names, and its first stage alone."""

from collections.abc import Mapping, Sequence

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from deblur_cli.nets.mprnet import MPRNet, MPRNetConfig
from deblur_cli.nets.prior import PriorConfig

SMALL = MPRNetConfig(width=6, growth=2, original_growth=4, original_blocks=2, reduction=2)


def published() -> dict[str, tuple[int, ...]]:  # noqa: C901  (a list, level by level)
    """Names and shapes of the authors' tensors."""
    shapes: dict[str, tuple[int, ...]] = {}

    def conv(name: str, channels: int, wide: int, kernel: int = 1) -> None:
        shapes[f"{name}.weight"] = (wide, channels, kernel, kernel)

    def block(name: str, width: int) -> None:
        conv(f"{name}.CA.conv_du.0", width, width // 4)
        conv(f"{name}.CA.conv_du.2", width // 4, width)
        conv(f"{name}.body.0", width, width, 3)
        shapes[f"{name}.body.1.weight"] = (1,)
        conv(f"{name}.body.2", width, width, 3)

    for stage in (1, 2, 3):
        conv(f"shallow_feat{stage}.0", 3, 96, 3)
        block(f"shallow_feat{stage}.1", 96)
    for stage in (1, 2):
        for level, width in ((1, 96), (2, 144), (3, 192)):
            for index in (0, 1):
                block(f"stage{stage}_encoder.encoder_level{level}.{index}", width)
                block(f"stage{stage}_decoder.decoder_level{level}.{index}", width)
        conv(f"stage{stage}_encoder.down12.down.1", 96, 144)
        conv(f"stage{stage}_encoder.down23.down.1", 144, 192)
        conv(f"stage{stage}_decoder.up21.up.1", 144, 96)
        conv(f"stage{stage}_decoder.up32.up.1", 192, 144)
        block(f"stage{stage}_decoder.skip_attn1", 96)
        block(f"stage{stage}_decoder.skip_attn2", 144)
    for side in ("enc", "dec"):
        for level, width in ((1, 96), (2, 144), (3, 192)):
            conv(f"stage2_encoder.csff_{side}{level}", width, width)
            conv(f"stage3_orsnet.conv_{side}{level}", 96, 128)
        conv(f"stage3_orsnet.up_{side}1.up.1", 144, 96)
        conv(f"stage3_orsnet.up_{side}2.0.up.1", 192, 144)
        conv(f"stage3_orsnet.up_{side}2.1.up.1", 144, 96)
    for group in (1, 2, 3):
        for index in range(8):
            block(f"stage3_orsnet.orb{group}.body.{index}", 128)
        conv(f"stage3_orsnet.orb{group}.body.8", 128, 128, 3)
    for name in ("sam12", "sam23"):
        conv(f"{name}.conv1", 96, 96)
        conv(f"{name}.conv2", 96, 3)
        conv(f"{name}.conv3", 3, 96)
    conv("concat12", 192, 96, 3)
    conv("concat23", 192, 128, 3)
    conv("tail", 128, 3, 3)
    return shapes


def shapes_of(config: MPRNetConfig) -> dict[str, tuple[int, ...]]:
    with torch.device("meta"):
        return {name: tuple(value.shape) for name, value in MPRNet(config).state_dict().items()}


def test_tensors_have_the_authors_names_and_shapes() -> None:
    assert shapes_of(MPRNetConfig()) == published()
    assert len(published()) == 316


def test_the_first_stage_alone_is_part_of_the_whole() -> None:
    part = shapes_of(MPRNetConfig(stages=1))
    assert part.items() <= published().items()
    assert {name.split(".")[0] for name in part} == {"shallow_feat1", "stage1_encoder", "stage1_decoder", "sam12"}


def test_one_activation_serves_all_blocks() -> None:
    net = MPRNet(SMALL)
    state = net.state_dict()
    repeated = [name for name in state if name.endswith("body.1.weight") and state[name].shape == (1,)]
    assert len(repeated) == 3 + 2 * 14 + 3 * SMALL.original_blocks
    assert len({state[name].data_ptr() for name in repeated}) == 1


class ByHand:
    """The net as the paper draws it."""

    def __init__(self, state: Mapping[str, Tensor], groups: int) -> None:
        self.state = state
        self.groups = groups

    def conv(self, name: str, features: Tensor) -> Tensor:
        kernel = self.state[f"{name}.weight"]
        return F.conv2d(features, kernel, padding=kernel.shape[-1] // 2)

    def cab(self, name: str, features: Tensor) -> Tensor:
        slope = self.state[f"{name}.body.1.weight"]
        change = self.conv(f"{name}.body.2", F.prelu(self.conv(f"{name}.body.0", features), slope))
        pooled = F.adaptive_avg_pool2d(change, 1)
        pooled = self.conv(f"{name}.CA.conv_du.2", self.conv(f"{name}.CA.conv_du.0", pooled).relu()).sigmoid()
        return features + change * pooled

    def shallow(self, name: str, image: Tensor) -> Tensor:
        return self.cab(f"{name}.1", self.conv(f"{name}.0", image))

    def pair(self, name: str, features: Tensor) -> Tensor:
        return self.cab(f"{name}.1", self.cab(f"{name}.0", features))

    def scaled(self, name: str, features: Tensor, factor: float) -> Tensor:
        return self.conv(name, F.interpolate(features, scale_factor=factor, mode="bilinear", align_corners=False))

    def encode(self, name: str, features: Tensor, earlier: Sequence[Sequence[Tensor]] = ()) -> list[Tensor]:
        maps: list[Tensor] = []
        for level in (1, 2, 3):
            if level > 1:
                features = self.scaled(f"{name}.down{level - 1}{level}.down.1", features, 0.5)
            features = self.pair(f"{name}.encoder_level{level}", features)
            for side, seen in zip(("enc", "dec"), earlier, strict=False):
                features = features + self.conv(f"{name}.csff_{side}{level}", seen[level - 1])
            maps.append(features)
        return maps

    def decode(self, name: str, maps: Sequence[Tensor]) -> list[Tensor]:
        three = self.pair(f"{name}.decoder_level3", maps[2])
        two = self.scaled(f"{name}.up32.up.1", three, 2) + self.cab(f"{name}.skip_attn2", maps[1])
        two = self.pair(f"{name}.decoder_level2", two)
        one = self.scaled(f"{name}.up21.up.1", two, 2) + self.cab(f"{name}.skip_attn1", maps[0])
        return [self.pair(f"{name}.decoder_level1", one), two, three]

    def sam(self, name: str, features: Tensor, image: Tensor) -> tuple[Tensor, Tensor]:
        restored = self.conv(f"{name}.conv2", features) + image
        attention = self.conv(f"{name}.conv3", restored).sigmoid()
        return self.conv(f"{name}.conv1", features) * attention + features, restored

    def __call__(self, x: Tensor) -> list[Tensor]:
        height, width = x.shape[-2] // 2, x.shape[-1] // 2
        firsts, seconds = [], []
        for half in (x[..., :height, :], x[..., height:, :]):
            left, right = (
                self.encode("stage1_encoder", self.shallow("shallow_feat1", part))
                for part in (half[..., :width], half[..., width:])
            )
            encoded = [torch.cat(level, dim=3) for level in zip(left, right, strict=True)]
            decoded = self.decode("stage1_decoder", encoded)
            features, image = self.sam("sam12", decoded[0], half)
            firsts.append(image)
            features = self.conv("concat12", torch.cat((self.shallow("shallow_feat2", half), features), dim=1))
            seconds.append(self.encode("stage2_encoder", features, (encoded, decoded)))
        encoded = [torch.cat(level, dim=2) for level in zip(*seconds, strict=True)]
        decoded = self.decode("stage2_decoder", encoded)
        features, second = self.sam("sam23", decoded[0], x)
        features = self.conv("concat23", torch.cat((self.shallow("shallow_feat3", x), features), dim=1))
        name = "stage3_orsnet"
        for level in (1, 2, 3):
            inner = features
            for index in range(self.groups):
                inner = self.cab(f"{name}.orb{level}.body.{index}", inner)
            features = features + self.conv(f"{name}.orb{level}.body.{self.groups}", inner)
            for side, maps in (("enc", encoded), ("dec", decoded)):
                seen = maps[level - 1]
                if level == 2:
                    seen = self.scaled(f"{name}.up_{side}1.up.1", seen, 2)
                if level == 3:
                    seen = self.scaled(f"{name}.up_{side}2.0.up.1", seen, 2)
                    seen = self.scaled(f"{name}.up_{side}2.1.up.1", seen, 2)
                features = features + self.conv(f"{name}.conv_{side}{level}", seen)
        return [self.conv("tail", features) + x, second, torch.cat(firsts, dim=2)]


def test_the_net_computes_what_the_paper_says() -> None:
    torch.manual_seed(0)
    net = MPRNet(SMALL).double().train()
    blurred = torch.rand(2, 3, 16, 24, dtype=torch.float64)
    with torch.no_grad():
        expected = ByHand(net.state_dict(), SMALL.original_blocks)(blurred)
        for ours, theirs in zip(net(blurred), expected, strict=True):
            torch.testing.assert_close(ours, theirs)
        torch.testing.assert_close(net.eval()(blurred)[0], expected[0])


def test_the_first_stage_alone_restores_what_it_restores_in_the_whole() -> None:
    torch.manual_seed(0)
    whole = MPRNet(SMALL).train()
    part = MPRNet(MPRNetConfig(width=6, growth=2, reduction=2, stages=1))
    part.load_state_dict({name: whole.state_dict()[name] for name in part.state_dict()})
    blurred = torch.rand(2, 3, 16, 24)
    with torch.no_grad():
        torch.testing.assert_close(part(blurred)[0], whole(blurred)[2])


def test_patches_and_the_whole_share_weights_and_differ() -> None:
    torch.manual_seed(0)
    patched = MPRNet(MPRNetConfig(width=6, growth=2, reduction=2, stages=1))
    whole = MPRNet(MPRNetConfig(width=6, growth=2, reduction=2, stages=1, patched=False))
    whole.load_state_dict(patched.state_dict())
    blurred = torch.rand(1, 3, 16, 24)
    with torch.no_grad():
        assert not torch.allclose(whole(blurred)[0], patched(blurred)[0], atol=1e-4)


def test_a_half_is_guided_by_its_own_half_of_the_prior() -> None:
    torch.manual_seed(0)
    prior = PriorConfig(widths=(2, 2, 2), channels=(2, 2, 2), blocks=(0, 0, 0))
    net = MPRNet(MPRNetConfig(width=6, growth=2, reduction=2, stages=1, prior=prior)).eval()
    blurred = torch.rand(1, 3, 16, 24)
    halves: list[Tensor] = []
    net.embed.fuse[2].register_forward_hook(lambda _, inputs, out: halves.append(inputs[1]))
    with torch.no_grad():
        net(blurred)
        maps = net.embed(net.prior(blurred).f_pri)
    assert len(halves) == 2
    assert torch.equal(torch.cat(halves, dim=2), maps[0])


@pytest.mark.parametrize("dials", [{"stages": 2}, {"reduction": 0}, {"reduction": 97}, {"growth": -1}])
def test_an_impossible_dial_is_refused(dials: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=next(iter(dials))):
        MPRNetConfig(**dials)
