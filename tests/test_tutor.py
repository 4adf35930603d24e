"""Learning from a trained net: what its images change in the loss, and what the command asks of it."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from deblur_cli import nets
from deblur_cli.commands import train
from deblur_cli.errors import UsageError
from deblur_cli.files import checkpoint
from deblur_cli.files.checkpoint import Checkpoint, Label
from deblur_cli.nets.unet import UNet, UNetConfig
from deblur_cli.objective import DeblurObjective, Tutor
from deblur_cli.options.train import TrainOptions
from deblur_cli.pixels import distances
from deblur_cli.trainer.events import Stopped

TINY = UNetConfig(width=4, blocks=(1, 1, 1), stem=2)


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch, one_thread: None) -> None:
    monkeypatch.setattr(nets, "PRESETS", {**nets.PRESETS, "unet": ("unet", TINY)})


def net_of(seed: int, config: UNetConfig = TINY) -> UNet:
    torch.manual_seed(seed)
    net = UNet(config)
    nn.init.normal_(net.out.weight, std=0.05)  # a fresh net returns its input: nothing to learn from
    return net


def images(seed: int, count: int = 3) -> list[Tensor]:
    chance = torch.Generator().manual_seed(seed)
    return [torch.rand(2, 3, 32, 32, generator=chance, dtype=torch.float64) for _ in range(count)]


def gradients(net: nn.Module, loss: Tensor) -> list[Tensor]:
    return list(torch.autograd.grad(loss, list(net.parameters())))


def test_a_net_that_says_what_its_tutor_says_has_the_tutors_psnr_and_nothing_more_to_learn() -> None:
    taught, sharp, _ = images(0)
    restored = taught.clone().requires_grad_()
    loss = distances.tutored_psnr_loss(restored, taught, sharp)
    torch.testing.assert_close(loss, distances.psnr_loss(taught, sharp))
    assert not torch.autograd.grad(loss, restored)[0].any()
    # Where the sharp image alone is learnt from, there would be.
    assert torch.autograd.grad(distances.psnr_loss(restored, sharp), restored)[0].any()


def test_a_tutor_that_knows_the_sharp_image_changes_nothing() -> None:
    restored, sharp, _ = images(1)
    torch.testing.assert_close(
        distances.tutored_psnr_loss(restored, sharp, sharp), distances.psnr_loss(restored, sharp)
    )


def test_what_is_left_out_is_the_product_of_the_two_differences() -> None:
    restored, taught, sharp = images(2)
    beyond = sharp - taught
    away = restored - taught
    share = (away * beyond).flatten(1).sum(1) / beyond.square().flatten(1).sum(1)
    across = taught + away - share[:, None, None, None] * beyond  # what no longer points to the sharp image
    torch.testing.assert_close(distances.tutored_psnr_loss(across, taught, sharp), distances.psnr_loss(across, sharp))


@pytest.mark.parametrize("mixed", [False, True])
def test_the_objective_learns_from_the_tutor_and_leaves_it_alone(mixed: bool) -> None:
    net, other = net_of(0), net_of(1)
    blurred, sharp = (each.float() for each in images(3, 2))
    with torch.autocast("cpu", torch.bfloat16, enabled=mixed):
        found = DeblurObjective(tutor=Tutor(other))(net, blurred, sharp)
        wanted = distances.tutored_psnr_loss(net(blurred)[0], other(blurred)[0], sharp, eps=1e-4)
    torch.testing.assert_close(found.total, wanted)
    assert set(found.terms) == {"reconstruction"}
    assert any(each.abs().sum() > 0 for each in gradients(net, found.total))
    assert not any(each.requires_grad for each in other.parameters())
    assert not other.training


def test_a_tutor_that_does_not_stand_half_precision_computes_in_the_whole() -> None:
    class Proud(nn.Module):
        config = type("Config", (), {"precisions": ("fp32",)})

        def forward(self, blurred: Tensor) -> tuple[Tensor, ...]:
            seen.append(torch.is_autocast_enabled("cpu"))
            return (blurred,)

    seen: list[bool] = []
    blurred = images(4, 1)[0].float()
    with torch.autocast("cpu", torch.bfloat16):
        Tutor(Proud())(blurred)
        assert torch.is_autocast_enabled("cpu")
    assert seen == [False]


def tutor_at(path: Path, licence: str = "CC-BY-4.0", config: UNetConfig = TINY) -> str:
    label = Label(net="unet", config=nets.to_mapping(config), made_with="a test", licence=licence, trained_on="dice")
    checkpoint.save(Checkpoint(label=label, tensors=net_of(7, config).state_dict()), path)
    return str(path)


def trained(folder: Path, out: Path, **more: Any) -> tuple[dict[str, Tensor], Label]:
    said = {"data": str(folder), "dataset": "pairs", "batch": 2, "crop": 32, "workers": 1, "device": "cpu"}
    paced = {"steps": 3, "log_every": 1, "ema": 0.0, "precision": "fp32", "perceptual": "none", "val_count": 0}
    *_, last = train.run(TrainOptions(**said | paced | {"out": str(out), "prior": False} | more))
    assert isinstance(last, Stopped)
    kept = checkpoint.load(out / "last.safetensors")
    return dict(kept.tensors), kept.label


def same(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    return all(torch.equal(first[name], second[name]) for name in first)


def test_the_command_learns_another_net_with_a_tutor(folder: Path, tmp_path: Path) -> None:
    tutor = tutor_at(tmp_path / "tutor.safetensors")
    taught, label = trained(folder, tmp_path / "taught", tutor=tutor)
    alone, own = trained(folder, tmp_path / "alone", loss="psnr")
    assert taught.keys() == alone.keys()
    assert not same(taught, alone)
    assert "--tutor tutor.safetensors" in label.made_with
    assert (label.licence, own.licence) == ("CC-BY-4.0", "that of whoever trained it")


def test_a_resumed_run_with_a_tutor_is_the_uninterrupted_one(folder: Path, tmp_path: Path) -> None:
    said = {"tutor": tutor_at(tmp_path / "tutor.safetensors"), "lr": 1e-3, "final_lr": 1e-3, "warmup": 0}
    begin = tutor_at(tmp_path / "begin.safetensors", licence="MIT")
    whole, _ = trained(folder, tmp_path / "whole", init=begin, **said)
    trained(folder, tmp_path / "parts", init=begin, steps=2, **said)
    parts, label = trained(folder, tmp_path / "parts", resume=True, **said)
    assert same(whole, parts)
    assert label.licence == "MIT and CC-BY-4.0"


@pytest.mark.parametrize(
    ("more", "message", "hint"),
    [
        ({"loss": "l1"}, "--tutor means nothing with --loss l1.", "--loss psnr"),
        ({"backbone": "bdirnet", "prior": False}, "--tutor is not for bdirnet", "Leave it out."),
        ({"crop": 40}, "--crop 40 is not a multiple of 16, as the tutor needs.", "Say --crop 32."),
    ],
    ids=["loss", "net", "crop"],
)
def test_what_cannot_be_learnt_from_a_tutor_is_said_before_anything_is_done(
    more: dict[str, Any], message: str, hint: str, folder: Path, tmp_path: Path
) -> None:
    deeper = UNetConfig(width=4, blocks=(1, 1, 1), stem=4)
    tutor = tutor_at(tmp_path / "tutor.safetensors", config=deeper)
    with pytest.raises(UsageError) as caught:
        trained(folder, tmp_path / "run", tutor=tutor, **more)
    assert message in caught.value.message
    assert hint in caught.value.hint
    assert not (tmp_path / "run").exists()
