"""Published checkpoints: every container is read, nothing but tensors leaves it, every net is recognised, strictly."""

import hashlib
import pickle
from collections import OrderedDict
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from deblur_cli import foreign, nets
from deblur_cli.cli import main
from deblur_cli.deblurrer import Deblurrer
from deblur_cli.errors import WeightsError
from deblur_cli.files import checkpoint, published
from deblur_cli.files.origins import ORIGINS
from deblur_cli.foreign import spandrel_nets
from deblur_cli.foreign.recognition import Near, Recognised, recognise
from deblur_cli.nets.deepdeblur import DeepDeblurConfig
from deblur_cli.nets.dmphn import DMPHNConfig
from deblur_cli.nets.hinet import HINetConfig
from deblur_cli.nets.mimo_unet import MIMOUNetConfig
from deblur_cli.nets.mprnet import MPRNetConfig
from deblur_cli.nets.mssnet import MSSNetConfig
from deblur_cli.nets.nafnet import NAFNetConfig

ADAM = {"state": {0: {"step": torch.tensor(3.0)}}, "param_groups": [{"lr": 1e-4, "betas": (0.9, 0.999)}]}
SMALL = {
    "deepdeblur": (DeepDeblurConfig(width=4, blocks=3), lambda state: {"G": state}),
    "dmphn": (DMPHNConfig(width=4), None),
    "dmphn-1-2-4": (DMPHNConfig(width=4, levels=3), None),
    "hinet": (HINetConfig(width=4, depth=4, normed=(2, 3)), lambda state: {"params": state}),
    "hinet-without-norm": (HINetConfig(width=4, depth=3, normed=(1, 0)), lambda state: {"params": state}),
    "mimo-unet": (MIMOUNetConfig(width=8, blocks=2), lambda state: {"model": state, "optimizer": ADAM, "epoch": 3}),
    "mprnet": (
        MPRNetConfig(width=8, growth=4, reduction=4, original_growth=3, original_blocks=2),
        lambda state: {
            "epoch": 3,
            "state_dict": OrderedDict((f"module.{key}", each) for key, each in state.items()),
            "optimizer": ADAM,
        },
    ),
    "mprnet-stage1": (MPRNetConfig(width=8, growth=4, reduction=2, stages=1), lambda state: state),
    "mssnet": (MSSNetConfig(widths=(4, 6, 8)), lambda state: {"model_state_dict": state, "epoch": 3, "all_step": 9}),
    "nafnet": (NAFNetConfig(width=4, encoder=(1, 2, 0, 1), middle=2), lambda state: {"params": state}),
    "nafnet-ema": (NAFNetConfig(width=4), lambda state: {"params": {}, "params_ema": state}),
}
FULL = {
    "deepdeblur, 19 blocks": (DeepDeblurConfig(blocks=19), 244, 11_721_321),
    "deepdeblur, 6 blocks": (DeepDeblurConfig(), 88, 3_729_129),
    "dmphn 1-2-4-8": (DMPHNConfig(), 240, 7_232_524),
    "dmphn 1-2-4": (DMPHNConfig(levels=3), 180, 5_424_393),
    "hinet": (HINetConfig(), 186, 88_668_806),
    "hinet 0.5x": (HINetConfig(width=32), 186, 22_176_070),
    "mimo-unet": (MIMOUNetConfig(), 244, 6_807_171),
    "mimo-unet+": (MIMOUNetConfig(blocks=20, dropout=0.1), 532, 16_107_651),
    "mprnet": (MPRNetConfig(), 316, 20_127_073),
    "mssnet": (MSSNetConfig(), 328, 15_614_497),
    "mssnet-small": (MSSNetConfig(widths=(20, 60, 100)), 328, 6_756_161),
    "mssnet-large": (MSSNetConfig(widths=(80, 130, 180)), 328, 28_182_041),
    "nafnet-32": (NAFNetConfig(), 664, 17_111_907),
    "nafnet-64": (NAFNetConfig(width=64), 664, 67_888_835),
}


def name_of(config):
    return next(name for name, spec in nets.NETS.items() if spec.config is type(config))


def made(config):
    """A net with weights that all say something."""
    torch.manual_seed(0)
    net = nets.build(name_of(config), nets.to_mapping(config)).eval()
    for values in net.parameters():
        if not values.any():
            torch.nn.init.normal_(values, std=0.1)
    return net


def write(name, folder):
    """The net of a row of SMALL and where it lies, in the container of its authors."""
    config, wrapped = SMALL[name]
    net = made(config)
    state = net.state_dict()
    if wrapped is not None:
        path = folder / "published.pth"
        torch.save(wrapped(state), path)
        return net, path
    for part in {key.partition(".")[0] for key in state}:
        own = {key.partition(".")[2]: each for key, each in state.items() if key.startswith(f"{part}.")}
        torch.save(own, folder / f"{part}.pkl")
    (folder / "README.md").write_text("whatever else lies there")
    return net, folder


@pytest.mark.parametrize("name", SMALL)
def test_a_published_checkpoint_is_recognised_and_computes_the_same(name, tmp_path):
    net, path = write(name, tmp_path)
    assert foreign.is_published(path)
    label, opened = foreign.open_net(path)
    assert (label.net, opened.config) == (name_of(net.config), net.config)
    assert label.licence == ORIGINS[label.net].licence
    blurred = torch.rand(1, 3, 32, 48)
    with torch.inference_mode():
        assert torch.equal(opened.eval()(blurred)[0], net(blurred)[0])


@pytest.mark.parametrize("name", SMALL)
def test_a_conversion_is_a_checkpoint_of_ours_that_computes_the_same(name, tmp_path):
    _, path = write(name, tmp_path)
    out, again = tmp_path / "ours.safetensors", tmp_path / "again.safetensors"
    done = foreign.convert(path, out)
    foreign.convert(path, again)
    assert out.read_bytes() == again.read_bytes()
    assert done.label == checkpoint.read_label(out)
    assert not foreign.is_published(out)
    for file in [path] if path.is_file() else path.glob("*.pkl"):
        assert f"{file.name} sha256 {hashlib.sha256(file.read_bytes()).hexdigest()}" in done.label.notes
    photo = np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8)
    ours, theirs = (Deblurrer.open(each, device="cpu")(photo) for each in (out, path))
    assert np.array_equal(ours, theirs)
    assert not np.array_equal(ours, photo)


@pytest.mark.parametrize("name", FULL)
def test_the_nets_of_the_papers_are_known_by_their_names_and_shapes(name):
    config, entries, parameters = FULL[name]
    with torch.device("meta"):
        net = nets.build(name_of(config), nets.to_mapping(config))
    shapes = {key: tuple(values.shape) for key, values in net.state_dict().items()}
    assert len(shapes) == entries
    assert sum(values.numel() for values in net.parameters()) == parameters
    assert recognise(shapes) == Recognised(name_of(config), config)


@pytest.mark.parametrize("name", FULL)
@pytest.mark.parametrize("spoil", ["missing", "extra", "shape"])
def test_one_wrong_tensor_is_one_too_many(name, spoil):
    config = FULL[name][0]
    with torch.device("meta"):
        net = nets.build(name_of(config), nets.to_mapping(config))
    shapes = {key: tuple(values.shape) for key, values in net.state_dict().items()}
    last = next(key for key in reversed(shapes) if len(shapes[key]) == 4 and shapes[key][1] > 1)
    if spoil == "missing":
        del shapes[last]
    elif spoil == "extra":
        shapes["prior.stranger.weight"] = (1,)
    else:
        shapes[last] = (*shapes[last][:3], 2)
    found = recognise(shapes)
    assert not isinstance(found, Recognised)
    assert found is None or (isinstance(found, Near) and found.net in ORIGINS and found.wrong)


def test_every_net_that_is_recognised_has_an_origin():
    assert {name_of(config) for config, _, _ in FULL.values()} == set(ORIGINS)


@pytest.mark.parametrize("suffix", [".pth", ".pt", ".pkl", ".safetensors", ".model"])
@pytest.mark.parametrize("prefix", ["", "module."])
def test_the_name_of_the_file_and_the_prefix_do_not_matter(suffix, prefix, tmp_path):
    net = made(SMALL["nafnet"][0])
    state = {f"{prefix}{key}": values.contiguous() for key, values in net.state_dict().items()}
    path = tmp_path / f"net{suffix}"
    (save_file if suffix == ".safetensors" else torch.save)(state, path)
    assert foreign.open_net(path)[1].config == net.config


def test_the_oldest_format_of_torch_is_read_too(tmp_path):
    path = tmp_path / "old.pkl"
    torch.save({"model": made(SMALL["mimo-unet"][0]).state_dict()}, path, _use_new_zipfile_serialization=False)
    assert foreign.is_published(path)
    assert foreign.load(path).label.net == "mimo-unet"


def test_parameters_count_as_tensors_and_half_precision_opens_in_single(tmp_path):
    net = made(SMALL["nafnet"][0]).half()
    path = tmp_path / "net.pth"
    torch.save(dict(net.named_parameters()), path)
    opened = foreign.open_net(path)[1]
    assert all(values.dtype == torch.float32 for values in opened.parameters())
    assert torch.equal(opened.intro.weight.half(), net.intro.weight)


def test_double_precision_becomes_single(tmp_path):
    net = made(SMALL["nafnet"][0])
    torch.save(net.double().state_dict(), tmp_path / "net.pth")
    foreign.convert(tmp_path / "net.pth", tmp_path / "ours.safetensors")
    assert torch.equal(checkpoint.load(tmp_path / "ours.safetensors").tensors["intro.weight"], net.float().intro.weight)


def test_names_that_share_a_weight_must_agree(tmp_path):
    state = made(SMALL["mprnet-stage1"][0]).state_dict()
    name = next(key for key in state if key.endswith("body.1.weight"))
    path = tmp_path / "net.pth"
    torch.save({**state, name: torch.tensor([0.7])}, path)
    with pytest.raises(WeightsError, match="contradicts itself"):
        foreign.open_net(path)


def complaint(path):
    with pytest.raises(WeightsError) as caught:
        foreign.open_net(path)
    return str(caught.value)


class Code:
    """Something that a pickle would run."""

    def __reduce__(self):
        return (exec, ("raise SystemExit(99)",))


def test_code_in_a_pickle_is_not_run(tmp_path):
    path = tmp_path / "net.pkl"
    path.write_bytes(pickle.dumps({"model": Code()}, protocol=2))
    assert foreign.is_published(path)
    assert "holds more than tensors and numbers, and might run any code; it was not opened" in complaint(path)
    torch.save({"model": made(SMALL["nafnet"][0]).state_dict(), "args": Code()}, path)
    assert "might run any code" in complaint(path)


@pytest.mark.parametrize("keep", [4, 100, 2000])
def test_a_torn_file_is_told(keep, tmp_path):
    _, path = write("nafnet", tmp_path)
    path.write_bytes(path.read_bytes()[:keep])
    assert "is torn or no checkpoint" in complaint(path)


@pytest.mark.parametrize("held", [{}, {"epoch": 3}, [1, 2], torch.zeros(3), {"model": {"a": torch.zeros(1), "b": 2}}])
def test_a_file_without_a_state_dict_is_told(held, tmp_path):
    path = tmp_path / "net.pth"
    torch.save(held, path)
    assert "holds no state dict" in complaint(path)


def test_values_that_are_not_numbers_are_told(tmp_path):
    state = made(SMALL["nafnet"][0]).state_dict()
    state["intro.bias"][1] = torch.nan
    path = tmp_path / "net.pth"
    torch.save(state, path)
    assert "is spoilt: intro.bias holds values that are not numbers" in complaint(path)


def test_a_net_that_comes_near_is_named_with_what_is_wrong(tmp_path, monkeypatch):
    monkeypatch.setattr(spandrel_nets, "is_installed", lambda: False)
    state = made(SMALL["hinet"][0]).state_dict()
    del state["last.bias"]
    path = tmp_path / "net.pth"
    torch.save(state, path)
    assert "looks like a HINet, but is none that deblur can build: last.bias is missing" in complaint(path)


def test_what_nobody_knows_is_told_with_the_known_ones(tmp_path, monkeypatch):
    path = tmp_path / "net.pth"
    torch.save(torch.nn.Linear(2, 3).state_dict(), path)
    assert "holds tensors (2, the first is weight), but is none of DeepDeblur, DMPHN, HINet" in complaint(path)
    monkeypatch.setattr(spandrel_nets, "is_installed", lambda: False)
    assert complaint(path).endswith("or say pip install 'deblur-cli[spandrel]', which knows many more.")


def test_a_part_of_a_dmphn_is_told_where_the_others_are_needed(tmp_path):
    write("dmphn-1-2-4", tmp_path)
    for part in ("encoder_lv1.pkl", "decoder_lv3.pkl"):
        assert "looks like one part of a DMPHN. Give the folder with its six or eight files." in complaint(
            tmp_path / part
        )
    (tmp_path / "decoder_lv2.pkl").unlink()
    assert "is no folder of weights: decoder_lv2 is missing" in complaint(tmp_path)


def test_a_folder_without_weights_is_told(tmp_path):
    (tmp_path / "photo.jpg").touch()
    assert "it has no encoder_lv1 and decoder_lv1 to begin with" in complaint(tmp_path)


def test_what_is_ours_missing_or_no_checkpoint_is_not_published(tmp_path):
    text = tmp_path / "notes.pth"
    text.write_text("no checkpoint")
    torn = tmp_path / "torn.safetensors"
    torn.write_bytes(b"PK\x03\x04")
    assert not any(map(foreign.is_published, (tmp_path / "missing.pth", text, torn)))
    with pytest.raises(WeightsError, match=r"missing\.pth' cannot be read: No such file"):
        published.read(tmp_path / "missing.pth")


def test_converting_what_is_ours_already_is_told(tmp_path):
    write("nafnet", tmp_path)
    out = tmp_path / "ours.safetensors"
    foreign.convert(tmp_path / "published.pth", out)
    with pytest.raises(WeightsError, match="is a checkpoint of deblur already, of the net nafnet"):
        foreign.convert(out, tmp_path / "again.safetensors")


def test_a_conversion_that_fails_leaves_nothing(tmp_path):
    path = tmp_path / "net.pth"
    torch.save(torch.nn.Linear(2, 3).state_dict(), path)
    with pytest.raises(WeightsError):
        foreign.convert(path, tmp_path / "ours.safetensors")
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("name", ["mprnet", "mssnet", "nafnet", "dmphn"])
def test_a_conversion_counts_a_shared_weight_once(name, tmp_path):
    net, path = write(name, tmp_path)
    found = foreign.convert(path, tmp_path / "ours.safetensors")
    assert found.parameters == sum(values.numel() for values in net.parameters())


def test_building_a_net_leaves_the_callers_dice_alone(tmp_path):
    _, path = write("nafnet", tmp_path)
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    foreign.open_net(path)
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("nafnet", ""),
        ("dmphn", "These weights of DMPHN (HongguangZhang/DMPHN-cvpr19-master) come without a licence"),
        ("mprnet-stage1", "not for commercial use: their licence is the Academic Public License"),
    ],
)
def test_the_command_restores_with_them_and_tells_of_their_licence(name, said, tmp_path, capsys):
    from PIL import Image

    folder = tmp_path / "weights"
    folder.mkdir()
    _, path = write(name, folder)
    ours = tmp_path / "ours.safetensors"
    assert said in foreign.convert(path, ours).notice
    photo = tmp_path / "photo.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (24, 31, 3), np.uint8)).save(photo)
    for index, weights in enumerate((path, ours)):
        with pytest.raises(SystemExit) as stop:
            main([str(photo), "--weights", str(weights), "--device", "cpu", "-o", str(tmp_path / f"{index}.png")])
        assert not stop.value.code
        lines = capsys.readouterr().err.splitlines()
        assert said in lines[0]
        assert len(lines) == 1 + bool(said)
    assert (tmp_path / "0.png").read_bytes() == (tmp_path / "1.png").read_bytes()


def test_a_folder_here_needs_no_slash_in_its_name(tmp_path, monkeypatch):
    from deblur_cli.files import weights

    monkeypatch.chdir(tmp_path)
    (tmp_path / "dmphn").mkdir()
    write("dmphn-1-2-4", tmp_path / "dmphn")
    assert foreign.open_net(weights.locate("dmphn"))[0].config["levels"] == 3


def test_a_mimo_unet_plus_is_known_by_its_twenty_blocks():
    config = MIMOUNetConfig(blocks=20)
    with torch.device("meta"):
        state = nets.build("mimo-unet", nets.to_mapping(config)).state_dict()
    found = recognise({key: tuple(values.shape) for key, values in state.items()})
    assert found == Recognised("mimo-unet", replace(config, dropout=0.1))
