"""Nets that only spandrel can build run like ours, and what it knows but does not restore is told."""

import sys
import warnings

import numpy as np
import pytest
import torch
from PIL import Image

from deblur_cli import foreign
from deblur_cli.cli import main
from deblur_cli.deblurrer import Deblurrer
from deblur_cli.errors import WeightsError
from deblur_cli.foreign import spandrel_nets

pytest.importorskip("spandrel")


def _net(module, kind, **dials):
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what torch will do away with
        return getattr(pytest.importorskip(module), kind)(**dials).eval()


def restormer():
    dials = {"dim": 8, "num_blocks": [1, 1, 1, 1], "num_refinement_blocks": 1, "heads": [1, 1, 2, 2]}
    return _net("spandrel_extra_arches.architectures.Restormer", "Restormer", **dials)


def fftformer():
    dials = {"dim": 8, "num_blocks": [1, 1, 1], "num_refinement_blocks": 1}
    return _net("spandrel.architectures.FFTformer", "FFTformer", **dials)


def uformer():
    dials = {"img_size": 128, "embed_dim": 4, "depths": [1] * 9, "num_heads": [1] * 9, "win_size": 8}
    return _net("spandrel.architectures.Uformer", "Uformer", **dials)


def enlarger():
    return _net("spandrel.architectures.Compact", "Compact", num_feat=8, num_conv=2, upscale=2)


def saved(net, folder):
    path = folder / "net.pth"
    torch.save({"params": net.state_dict()}, path)
    return path


@pytest.mark.parametrize(("make", "name"), [(restormer, "Restormer"), (fftformer, "FFTformer"), (uformer, "Uformer")])
def test_the_net_computes_what_it_does_without_us(make, name, tmp_path):
    net = make()
    label, opened = foreign.open_net(saved(net, tmp_path))
    assert label.net == f"spandrel:{name}"
    blurred = torch.rand(2, 3, 128, 128)
    with torch.inference_mode():
        (restored,) = opened.eval()(blurred)
        expected = net(blurred).clamp(0, 1)
    torch.testing.assert_close(restored, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("make", [restormer, fftformer])
def test_photos_of_any_size_go_through_the_tiler(make, tmp_path):
    deblurrer = Deblurrer.open(saved(make(), tmp_path), device="cpu", precision="fp32", tile=64, overlap=32)
    for height, width in ((1, 1), (50, 170)):
        photo = np.random.default_rng(0).integers(0, 2**16, (height, width, 3), np.uint16)
        restored = deblurrer(photo)
        assert (restored.shape, restored.dtype) == (photo.shape, photo.dtype)
        assert not np.array_equal(restored, photo)
    assert deblurrer.plan_for(50, 170).count > 1


def test_the_config_tells_what_the_rest_of_the_program_asks(tmp_path):
    config = foreign.open_net(saved(restormer(), tmp_path))[1].config
    assert config.multiple_of == 8
    assert config.precisions == ("fp32", "bf16")
    assert not config.local
    assert config.prior is None
    assert config.values_per_pixel > 2000


def test_the_command_restores_and_tells_of_the_licence(tmp_path, capsys):
    photo = tmp_path / "photo.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (24, 31, 3), np.uint8)).save(photo)
    with pytest.raises(SystemExit) as stop:
        main([str(photo), "--weights", str(saved(restormer(), tmp_path)), "--device", "cpu", "-v"])
    assert not stop.value.code
    said = capsys.readouterr().err
    assert "These weights are not for commercial use: their licence is the Academic Public License" in said
    assert "(spandrel:Restormer) on cpu" in said
    with Image.open(tmp_path / "photo-sharp.png") as restored:
        assert restored.size == (31, 24)


def test_an_unknown_licence_is_told(tmp_path):
    label, _ = foreign.open_net(saved(fftformer(), tmp_path))
    assert foreign.notice(label).startswith("The licence of these weights of FFTformer is not known here")


def test_a_net_that_enlarges_is_refused(tmp_path):
    with pytest.raises(
        WeightsError, match=r"is a RealESRGAN Compact for SR at scale 2.*does not restore colour photos"
    ):
        foreign.open_net(saved(enlarger(), tmp_path))


def test_such_a_net_cannot_become_a_checkpoint_of_ours(tmp_path):
    path = saved(restormer(), tmp_path)
    with pytest.raises(WeightsError, match=r"is a Restormer, which only spandrel can build.*--weights"):
        foreign.convert(path, tmp_path / "ours.safetensors")
    assert list(tmp_path.iterdir()) == [path]


def test_without_the_extra_it_is_said_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.setattr(spandrel_nets, "is_installed", lambda: False)
    with pytest.raises(WeightsError, match=r"pip install 'deblur-cli\[spandrel\]'"):
        foreign.open_net(saved(restormer(), tmp_path))


def test_our_own_nets_need_no_spandrel(tmp_path, monkeypatch):
    from deblur_cli.nets.nafnet import NAFNet, NAFNetConfig

    for module in [name for name in sys.modules if name.partition(".")[0] == "spandrel"]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, "spandrel", None)  # an import would fail
    label, _ = foreign.open_net(saved(NAFNet(NAFNetConfig(width=4)), tmp_path))
    assert label.net == "nafnet"
