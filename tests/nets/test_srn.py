"""SRN against the same written as functions of a state dict."""

from collections.abc import Mapping

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from deblur_cli.nets.prior import PriorConfig
from deblur_cli.nets.srn import SRN, SRNConfig


def test_tensors_have_their_names_and_shapes() -> None:
    with torch.device("meta"):
        state = SRN(SRNConfig()).state_dict()
    widths = {"1": 32, "2": 64, "3": 128}
    expected: dict[str, tuple[int, ...]] = {
        "conv1": (32, 6, 5, 5), "down2": (64, 32, 5, 5), "down3": (128, 64, 5, 5),
        "up2": (128, 64, 4, 4), "up1": (64, 32, 4, 4), "out": (3, 32, 5, 5),
    }  # fmt: skip
    for level, width in widths.items():
        for side in ("enc", "dec"):
            for block in range(3):
                for conv in ("c1", "c2"):
                    expected[f"{side}{level}.{block}.{conv}"] = (width, width, 5, 5)
    assert {name.removesuffix(".weight"): tuple(value.shape) for name, value in state.items() if "weight" in name} == (
        expected
    )
    assert {name for name in state if "weight" not in name} == {f"{name}.bias" for name in expected}


def by_hand(state: Mapping[str, Tensor], blurred: Tensor, blocks: int) -> list[Tensor]:
    """The restored images, finest first."""

    def conv(name: str, features: Tensor, stride: int = 1) -> Tensor:
        return F.conv2d(features, state[f"{name}.weight"], state[f"{name}.bias"], stride=stride, padding=2)

    def up(name: str, features: Tensor) -> Tensor:
        return F.conv_transpose2d(features, state[f"{name}.weight"], state[f"{name}.bias"], stride=2, padding=1).relu()

    def level(name: str, features: Tensor) -> Tensor:
        for block in range(blocks):
            features = features + conv(f"{name}.{block}.c2", conv(f"{name}.{block}.c1", features).relu())
        return features

    images: list[Tensor] = []
    for scale in (4, 2, 1):
        size = (blurred.shape[-2] // scale, blurred.shape[-1] // scale)
        seen = F.interpolate(blurred, size, mode="bilinear")
        hint = F.interpolate(images[0], size, mode="bilinear") if images else seen
        one = level("enc1", conv("conv1", torch.cat((seen, hint), dim=1)).relu())
        two = level("enc2", conv("down2", one, 2).relu())
        three = level("dec3", level("enc3", conv("down3", two, 2).relu()))
        two = level("dec2", up("up2", three) + two)
        one = level("dec1", up("up1", two) + one)
        images.insert(0, conv("out", one))
    return images


def test_the_net_computes_what_the_paper_says() -> None:
    torch.manual_seed(0)
    net = SRN(SRNConfig(width=3, blocks=2)).double().train()
    blurred = torch.rand(2, 3, 32, 48, dtype=torch.float64)
    with torch.no_grad():
        for ours, theirs in zip(net(blurred), by_hand(net.state_dict(), blurred, 2), strict=True):
            torch.testing.assert_close(ours, theirs)
        torch.testing.assert_close(net.eval()(blurred)[0], net.train()(blurred)[0])


def test_a_scale_is_shown_what_the_one_before_restored_and_sends_it_no_gradient() -> None:
    torch.manual_seed(0)
    net = SRN(SRNConfig(width=3, blocks=1)).train()
    seen: list[Tensor] = []
    net.conv1.register_forward_hook(lambda _, inputs, out: seen.append(inputs[0]))
    images = net(torch.rand(1, 3, 16, 16))
    for given, restored in zip(seen[1:], (images[2], images[1]), strict=True):
        enlarged = F.interpolate(restored, scale_factor=2, mode="bilinear")
        torch.testing.assert_close(given[:, 3:], enlarged)
        assert enlarged.requires_grad
        assert not given.requires_grad


@pytest.mark.parametrize("prior", [None, PriorConfig(widths=(2, 2, 2), channels=(2, 2, 2))])
def test_the_declared_overlap_is_between_half_and_all_of_what_a_pixel_sees(prior: PriorConfig | None) -> None:
    config = SRNConfig(width=2, prior=prior)
    net = SRN(config).eval()
    half = 1600
    blurred = torch.rand(1, 3, 16, 2 * half)
    blurred[..., half:] = torch.nan
    with torch.inference_mode():
        far = int(net(blurred)[0].isnan().any(1).any(1)[0, :half].sum())
    assert 0.4 * far < config.overlap < far < half


@pytest.mark.parametrize("dials", [{"blocks": -1}, {"width": 0}])
def test_an_impossible_dial_is_refused(dials: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="fits"):
        SRNConfig(**dials)
