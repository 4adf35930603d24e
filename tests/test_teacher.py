"""Teachers: their maps fall on the levels of the prior, they never learn, and their weights come in by published names."""

from pathlib import Path

import pytest
import safetensors.torch
import torch
from torch import nn

from deblur_cli import nets, objective
from deblur_cli.errors import UsageError, WeightsError
from deblur_cli.files import teachers
from deblur_cli.nets import teacher as teaching
from deblur_cli.nets import vgg

TINY = "timm:test_resnet"


def _sharp(height: int = 32, width: int = 48) -> torch.Tensor:
    return torch.rand(2, 3, height, width, generator=torch.Generator().manual_seed(0))


def _built(text: str, *, stem: int = 1) -> teaching.Teacher:
    torch.manual_seed(0)
    return teaching.build(teaching.parse(text), stem=stem)


@pytest.mark.parametrize("stem", [1, 2])
@pytest.mark.parametrize(
    "name",
    [
        TINY,
        "timm:mobilenetv2_035,pad_type=same",
        "timm:tresnet_m",
        "torchvision:lraspp_mobilenet_v3_large",
        "torchvision:lraspp_mobilenet_v3_large,prior=probability",
        "torchvision:lraspp_mobilenet_v3_large,prior=onehot",
    ],
)
def test_the_maps_fall_on_the_levels_of_the_prior(name: str, stem: int) -> None:
    teacher = _built(name, stem=stem)
    sharp = _sharp()
    maps = teacher(sharp)
    assert [level.shape[1] for level in maps] == list(teacher.widths)
    for level, stride in zip(maps, (stem, 2 * stem, 4 * stem), strict=True):
        assert level.shape[0] == 2
        assert level.shape[2:] == (32 // stride, 48 // stride)
        assert level.isfinite().all()


def test_the_trunk_of_the_papers_teacher_has_its_size() -> None:
    teacher = _built("asl:tresnet_l")
    assert sum(parameter.numel() for parameter in teacher.parameters()) == 2_578_192
    assert teacher.widths == (76, 76, 152)


def test_a_segmentation_net_gives_the_features_of_its_first_stages() -> None:
    assert _built("torchvision:fcn_resnet50").widths == (64, 256, 512)


def test_a_teacher_never_learns() -> None:
    teacher = _built(TINY)
    before = {name: values.clone() for name, values in teacher.state_dict().items()}
    teacher.train()
    maps = teacher(_sharp().requires_grad_())
    assert not teacher.training
    assert not any(module.training for module in teacher.modules())
    assert not any(parameter.requires_grad for parameter in teacher.parameters())
    assert not any(level.requires_grad for level in maps)
    assert all(torch.equal(values, before[name]) for name, values in teacher.state_dict().items())


def test_one_hot_maps_say_one_class_per_pixel_and_probabilities_add_up_to_one() -> None:
    onehot = _built("torchvision:lraspp_mobilenet_v3_large,prior=onehot")(_sharp())
    probability = _built("torchvision:lraspp_mobilenet_v3_large,prior=probability")(_sharp())
    for labels, shares in zip(onehot, probability, strict=True):
        assert set(labels.unique().tolist()) <= {0.0, 1.0}
        assert torch.equal(labels.sum(dim=1), torch.ones_like(labels[:, 0]))
        torch.testing.assert_close(shares.sum(dim=1), torch.ones_like(shares[:, 0]))


def test_a_larger_image_is_seen_by_a_net_that_is_taught_at_full_resolution() -> None:
    sharp = _sharp()
    twice = nn.functional.interpolate(sharp, scale_factor=2.0, mode="bilinear", align_corners=False)
    for fine, coarse in zip(_built(TINY)(sharp), _built(TINY, stem=2)(twice), strict=True):
        torch.testing.assert_close(fine, coarse, rtol=0, atol=1e-5)


def test_mean_and_std_are_applied_as_said() -> None:
    said = _built(f"{TINY},mean=0.1/0.2/0.3,std=2")(_sharp())
    plain = _built(f"{TINY},mean=0,std=1")((_sharp() - torch.tensor([0.1, 0.2, 0.3]).view(1, 3, 1, 1)) / 2)
    for one, other in zip(said, plain, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-5)


def test_scale_multiplies_each_level_by_its_own_number() -> None:
    plain, scaled = _built(TINY)(_sharp()), _built(f"{TINY},scale=1/0.5/0.25")(_sharp())
    for one, other, scale in zip(plain, scaled, (1, 0.5, 0.25), strict=True):
        torch.testing.assert_close(one * scale, other)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("resnet50", "is not a teacher"),
        ("keras:vgg", "is not a teacher"),
        ("timm:hf-hub:somebody/net", "is not a teacher"),
        ("timm:no_such_net", "timm cannot build"),
        ("timm:resnet18,pad_type=same", "timm cannot build"),
        ("timm:test_vit", "do not fit"),
        ("timm:test_convnext", "do not fit"),
        ("timm:inception_v3", "do not fit"),
        ("timm:test_resnet,prior=onehot", "no segmentation net"),
        ("timm:test_resnet,prior=labels", "none of features"),
        ("timm:test_resnet,colour=red", "does not parse"),
        ("timm:test_resnet,mean=1/2", "neither one number nor three"),
        ("torchvision:resnet18", "no segmentation net"),
        ("asl:tresnet_xl", "only teacher of ASL"),
    ],
)
def test_a_teacher_that_cannot_be_is_refused_in_one_sentence(text: str, said: str) -> None:
    with pytest.raises(UsageError, match=said) as caught:
        teaching.build(teaching.parse(text))
    assert caught.value.hint


def test_a_file_is_opened_with_what_it_says_of_itself(tmp_path: Path) -> None:
    import timm

    torch.manual_seed(1)
    net = timm.create_model("mobilenetv2_035", pad_type="same").eval()
    path = tmp_path / "teacher.safetensors"
    facts = {"timm": "mobilenetv2_035", "pad_type": "same", "mean": "0.5", "std": "0.5"}
    safetensors.torch.save_file({k: v.half() for k, v in net.state_dict().items()}, path, metadata=facts)

    teacher = objective.open_teacher("timm:mobilenetv2_035", path, stem=2)

    assert teacher.spec.pad_type == "same"
    with torch.no_grad():
        expected = (
            net.half().float().forward_intermediates(_sharp() * 2 - 1, indices=[0, 1, 2], intermediates_only=True)
        )
    for ours, theirs in zip(teacher(_sharp()), expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)
    with pytest.raises(WeightsError, match="of mobilenetv2_035, not of test_resnet"):
        objective.open_teacher(TINY, path)


def test_a_pickled_state_dict_may_be_wrapped_and_prefixed(tmp_path: Path) -> None:
    teacher = _built(TINY)
    tensors = {f"module.{name}": values for name, values in teacher.maps.trunk.state_dict().items()}
    torch.save({"state_dict": tensors, "epoch": 3}, tmp_path / "net.pth")
    opened = objective.open_teacher(TINY, tmp_path / "net.pth")
    for ours, theirs in zip(opened(_sharp()), teacher(_sharp()), strict=True):
        assert torch.equal(ours, theirs)


def _published(name: str) -> str:
    """The name in ASL's checkpoint of a tensor of timm's TResNet, from the published list of names."""
    name = name.replace(".conv.", ".0.").replace(".bn.", ".1.")
    layer, block = name.split(".")[1:3]
    if layer in {"layer2", "layer3", "layer4"} and block == "0":
        # The anti-aliased convolution of each stride-2 block sits one deeper: conv1 of a basic block, conv2 of a bottleneck.
        deeper = "conv1" if layer == "layer2" else "conv2"
        name = name.replace(f".{deeper}.", f".{deeper}.0.")
    return name


def test_the_papers_teacher_is_read_from_its_published_names(tmp_path: Path) -> None:
    import timm

    torch.manual_seed(0)
    net = timm.create_model("tresnet_l", num_classes=0).eval()
    names = [name for name in net.state_dict() if not name.endswith("num_batches_tracked")]
    assert len(names) + 4 == 537  # the published count, with the four tensors of the head
    published = {_published(name): values for name, values in net.state_dict().items() if name in names}
    assert len(published) == len(names)
    assert {"body.conv1.0.weight", "body.conv1.1.running_var", "body.layer1.0.conv1.1.weight"} <= published.keys()
    assert {
        "body.layer2.0.conv1.0.0.weight",
        "body.layer2.0.downsample.1.1.bias",
        "body.layer2.4.se.fc2.bias",
    } <= published.keys()
    # The sign of an in-place ABN's weight means nothing.
    scales = [name for name in published if name.endswith(".1.weight")]
    for name in scales:
        published[name] = -published[name].abs()
    torch.save({"model": published, "num_classes": 9605, "idx_to_class": {0: "tree"}}, tmp_path / "asl.pth")

    teacher = objective.open_teacher("asl:tresnet_l", tmp_path / "asl.pth")

    for name, values in teacher.maps.trunk.state_dict().items():
        if name.endswith("bn.weight"):
            torch.testing.assert_close(values, net.state_dict()[name].abs() + 1e-5)
        elif not name.endswith("num_batches_tracked"):
            assert torch.equal(values, net.state_dict()[name]), name


def test_weights_of_another_net_are_refused(tmp_path: Path) -> None:
    torch.save({"layer.weight": torch.zeros(3)}, tmp_path / "other.pth")
    with pytest.raises(WeightsError, match=r"other\.pth does not hold timm:test_resnet"):
        objective.open_teacher(TINY, tmp_path / "other.pth")


def test_a_teacher_of_other_widths_than_the_prior_is_refused(tmp_path: Path) -> None:
    torch.save(_built(TINY).maps.trunk.state_dict(), tmp_path / "net.pth")
    with pytest.raises(UsageError, match="32/32/48 channels, the prior 76/76/152"):
        objective.open_teacher(TINY, tmp_path / "net.pth", widths=(76, 76, 152))


def test_every_preset_with_a_prior_has_a_teacher_of_its_widths() -> None:
    for widths in {config.prior.widths for _, config in nets.PRESETS.values() if config.prior is not None}:
        assert _built(objective.teacher_for(widths)).widths == widths
    with pytest.raises(UsageError, match="for maps of 1/2/3 channels"):
        objective.teacher_for((1, 2, 3))


@pytest.mark.parametrize("content", [None, b"", b"not weights at all"])
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_a_file_that_holds_no_weights_is_refused(tmp_path: Path, content: bytes | None, suffix: str) -> None:
    path = tmp_path / f"net{suffix}"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(WeightsError) as caught:
        teachers.read(path)
    assert path.name in caught.value.message


def test_code_in_a_pickle_is_not_run(tmp_path: Path) -> None:
    torch.save({"net": nn.Linear(2, 2)}, tmp_path / "whole.pth")
    with pytest.raises(WeightsError, match="cannot be read as weights"):
        teachers.read(tmp_path / "whole.pth")


def test_without_the_hub_the_message_names_the_flag(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(WeightsError, match="cannot be fetched") as caught:
        objective.open_teacher("timm:test_resnet.r160_in1k")
    assert "--teacher-weights FILE" in caught.value.hint


def test_the_papers_teacher_without_a_file_says_where_to_get_it() -> None:
    with pytest.raises(WeightsError, match="on no hub") as caught:
        objective.open_teacher("asl:tresnet_l")
    assert "https://" in caught.value.hint
    assert "--teacher-weights FILE" in caught.value.hint


@pytest.mark.parametrize("prefix", ["features.", "module.features.", ""])
def test_vgg19_computes_what_torchvision_computes_before_the_activation(tmp_path: Path, prefix: str) -> None:
    from torchvision.models.vgg import make_layers

    torch.manual_seed(0)
    layers = make_layers([64, 64, "M", 128, 128, "M", 256, 256, 256])
    torch.save({f"{prefix}{name}": values for name, values in layers.state_dict().items()}, tmp_path / "vgg.pth")
    features = objective.open_features(str(tmp_path / "vgg.pth"))
    assert features is not None
    mean, std = (torch.tensor(three).view(1, 3, 1, 1) for three in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    expected = layers[:15]((_sharp() - mean) / std)
    torch.testing.assert_close(features(_sharp()), expected, rtol=1e-5, atol=1e-6)
    assert (expected < 0).any()


def test_vgg19_is_frozen_but_lets_gradients_through() -> None:
    features = vgg.VGG19Features().train()
    restored = _sharp(16, 16).requires_grad_()
    features(restored).mean().backward()
    assert restored.grad is not None
    assert restored.grad.abs().sum() > 0
    assert not features.training
    assert not any(parameter.requires_grad for parameter in features.parameters())


def test_no_perceptual_net_is_wanted_by_none() -> None:
    assert objective.open_features("none") is None


def test_weights_that_are_not_vgg19s_are_refused_by_name_of_the_flag(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="There is no file") as caught:
        objective.open_features(str(tmp_path / "vgg20"))
    assert "--perceptual" in caught.value.hint
    torch.save({"features.0.weight": torch.zeros(64, 3, 5, 5)}, tmp_path / "vgg.pth")
    with pytest.raises(WeightsError, match=r"does not hold VGG19: features\.0\.weight"):
        objective.open_features(str(tmp_path / "vgg.pth"))
