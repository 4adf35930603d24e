"""``deblur weights`` and ``--weights hf://…`` by the real command, against a Hub on this machine."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
import tomllib
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hub_server import FIRST, SECOND, TOKEN, Hub, Repository
from PIL import Image

import deblur_cli
from deblur_cli.cli import main
from deblur_cli.commands import weights as workflow
from deblur_cli.files import checkpoint, places, rows, weights
from deblur_cli.nets import to_mapping
from deblur_cli.nets.unet import UNet, UNetConfig
from deblur_cli.options.weights import ListOptions

FILE = "tiny.safetensors"
ADDRESS = f"hf://owner/net@{FIRST}/{FILE}"
ROOT = Path(deblur_cli.__file__).parents[1]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory) -> Path:
    """A checkpoint like any other."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = UNet(UNetConfig(width=4, blocks=(1, 1, 1)))
    label = checkpoint.Label(
        net="unet",
        config=to_mapping(net.config),
        made_with="a test",
        licence="that of whoever trained it",
        trained_on="nothing at all",
        scores={"psnr val": 31.5},
        precisions={"bf16": -0.0002},
        notes="For tests.",
    )
    path = tmp_path_factory.mktemp("weights") / FILE
    checkpoint.save(checkpoint.Checkpoint(label=label, tensors=net.state_dict()), path)
    return path


@pytest.fixture
def here(hub: Hub, tiny: Path) -> Hub:
    """A Hub with that checkpoint."""
    hub.repositories["owner/net"] = Repository(files={FILE: tiny.read_bytes()})
    return hub


def code_of(*words: str) -> int:
    with pytest.raises(SystemExit) as stop:
        main(words)
    return int(stop.value.code or 0)


def lines(capsys) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def list_with(content: bytes, **columns: Any) -> str:
    entry = rows.Entry(
        name="mine",
        net="unet",
        hub="owner/net",
        file=FILE,
        revision=FIRST,
        sha256=hashlib.sha256(content).hexdigest(),
        size=len(content),
        licence="MIT",
        trained_on="nothing",
        **columns,
    )
    Path("mine.toml").write_text(rows.text(entry))
    return "mine.toml"


def photo(name: str = "a.png") -> str:
    values = np.random.default_rng(0).integers(0, 256, (24, 40, 3), dtype=np.uint8)
    Image.fromarray(values).save(name)
    return name


def test_the_list_tells_of_every_row_and_whether_it_is_here(here: Hub, tiny: Path, capsys) -> None:
    said = list_with(tiny.read_bytes(), scores={"psnr gopro": 31.25})
    assert code_of("weights", "list", "--weights-list", said, "--json") == 0
    told = {each["name"]: each for each in lines(capsys)}
    assert list(told) == [*weights.entries(), "mine"]
    assert told["motion-unet-prior-photos-9"]["aliases"] == ["default"]
    assert told["motion-unet-prior-photos-9"]["path"]
    assert (told["mine"]["path"], told["mine"]["source"]) == (None, ADDRESS)
    assert code_of("weights", "pull", "mine", "--weights-list", said, "-q") == 0
    assert code_of("weights", "list", "--weights-list", said) == 0
    shown = capsys.readouterr()
    row = next(line for line in shown.out.splitlines() if "mine" in line)
    assert all(word in row for word in ("unet", "MIT", "31.25 dB gopro", "yes"))
    assert shown.err == ""


def test_info_tells_all_that_is_known(here: Hub, tiny: Path, capsys) -> None:
    assert code_of("weights", "info", "nafnet-gopro-32") == 0
    said = capsys.readouterr().out
    assert "deblur weights pull nafnet-gopro-32 fetches it" in said
    assert "reported by the authors" in said
    assert code_of("weights", "info", ADDRESS) == 4
    assert "pull" in capsys.readouterr().err
    assert code_of("weights", "pull", ADDRESS) == 0
    capsys.readouterr()
    for name in (ADDRESS, str(tiny)):
        assert code_of("weights", "info", name, "--json") == 0
        (told,) = lines(capsys)
        assert (told["net"], told["trained_on"], told["scores"]) == ("unet", "nothing at all", {"psnr val": 31.5})
        assert told["sha256"] == hashlib.sha256(tiny.read_bytes()).hexdigest()


@pytest.mark.parametrize("content", [b"", b"x" * 100, b"\x08\x00\x00\x00\x00\x00\x00\x00{}      "])
def test_info_of_a_file_without_a_label_is_refused(hub: Hub, content, capsys) -> None:
    Path("x.safetensors").write_bytes(content)
    assert code_of("weights", "info", "x.safetensors") == 4
    assert "no label" in capsys.readouterr().err


def test_info_of_a_folder_says_what_it_is(hub: Hub, tmp_path: Path, capsys) -> None:
    assert code_of("weights", "info", str(tmp_path)) == 4
    told = capsys.readouterr().err
    assert "is a folder" in told
    assert "deblur weights convert" in told


def test_pull_fetches_once_and_tells_size_and_place(here: Hub, tiny: Path, capsys) -> None:
    said = list_with(tiny.read_bytes())
    assert code_of("weights", "pull", "mine", "default", "--weights-list", said) == 0
    told = capsys.readouterr()
    assert told.out == ""
    size = f"{tiny.stat().st_size / 1e6:.1f} MB"
    assert f"fetching mine ({size}) from {here.url}/owner/net/resolve/{FIRST}/{FILE}\nmine is here now: " in told.err
    assert "default was here already: " in told.err
    asked = len(here.asked)
    assert code_of("weights", "pull", "mine", "--weights-list", said, "--json") == 0
    (outcome,) = lines(capsys)
    assert outcome["status"] == "present"
    assert len(here.asked) == asked


def test_on_a_terminal_a_bar_moves_and_then_makes_room_for_the_photos(
    here: Hub, tiny: Path, monkeypatch, capsys
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    assert code_of("weights", "pull", ADDRESS) == 0
    told = capsys.readouterr().err
    assert told.index("fetching") < told.rindex(f"{FILE} ") < told.index("is here now")
    here.repositories["owner/net"].commit = SECOND
    here.down = 99
    assert code_of("weights", "pull", f"hf://owner/net@{SECOND}/{FILE}") == 4
    assert "the Hub is out of order" in capsys.readouterr().err
    here.down = 0
    photo("b.png")
    assert code_of(photo(), "b.png", "--weights", f"hf://owner/net@{SECOND}/{FILE}", "-o", "out/") == 0
    told = capsys.readouterr().err
    assert FILE in told
    assert told.index("fetching") < told.index("a.png -> ") < told.index("2 restored")
    assert code_of("weights", "pull", f"hf://owner/net/{FILE}", "-q") == 0
    assert capsys.readouterr().err == ""


def test_pull_mends_what_was_changed(here: Hub, tiny: Path, capsys) -> None:
    said = list_with(tiny.read_bytes())
    assert code_of("weights", "pull", "mine", "--weights-list", said) == 0
    path = places.cached(places.parse(ADDRESS))
    assert path is not None
    path.resolve().write_bytes(b"rotten")
    assert code_of("weights", "verify", "mine", "--weights-list", said) == 4
    assert "deblur weights pull mine" in capsys.readouterr().err
    assert code_of("weights", "pull", "mine", "--weights-list", said) == 0
    assert code_of("weights", "verify", "mine", "--weights-list", said) == 0
    assert path.read_bytes() == tiny.read_bytes()


def test_one_that_fails_does_not_stop_the_rest(here: Hub, capsys) -> None:
    none = f"hf://owner/none@{FIRST}/{FILE}"
    assert code_of("weights", "pull", none, ADDRESS, "--json") == 6
    told = capsys.readouterr()
    outcomes = [json.loads(line) for line in told.out.splitlines()]
    assert [each["status"] for each in outcomes] == ["failed", "fetched"]
    assert outcomes[0]["exit_code"] == 4
    assert told.err.startswith(f"deblur: The weights '{none}' cannot be fetched from ")
    assert code_of("weights", "pull", none) == 4


def test_verify_reads_what_is_here_and_passes_over_the_rest(hub: Hub, capsys) -> None:
    assert code_of("weights", "verify", "--json") == 0
    told = {each["name"]: each["status"] for each in lines(capsys)}
    assert told["motion-unet-prior-photos-9"] == told["unet-prior-photos-1"] == "whole"
    assert told["nafnet-gopro-32"] == "absent"
    assert code_of("weights", "verify", "nafnet-gopro-32") == 4
    assert "are not here" in capsys.readouterr().err
    assert hub.asked == []


def test_verify_of_a_file_of_the_user_is_refused(hub: Hub, tiny: Path, capsys) -> None:
    assert code_of("weights", "verify", str(tiny)) == 4
    assert "no list says what is to be in it" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[mine]\nnet = 1\n", "mine is incomplete"),
        ("nonsense", "is wrong"),
        ("mine = 3", "mine is no row"),
        ('[aliases]\nx = "gone"', "there is no row gone"),
        ('[aliases]\nunet-prior-photos-1 = "unet-prior-photos-1"', "both an alias and a row"),
        ("aliases = 3", "aliases is no table of names"),
        ("[aliases]\nx = 3", "aliases is no table of names"),
        ('[aliases]\nx = ["mine"]', "aliases is no table of names"),
        (None, "cannot be read"),
    ],
)
def test_a_list_of_the_user_that_is_wrong_is_told(hub: Hub, text, said, capsys) -> None:
    if text is not None:
        Path("mine.toml").write_text(text)
    assert code_of("weights", "list", "--weights-list", "mine.toml") == 4
    told = capsys.readouterr().err
    assert told.startswith("deblur: The list of weights 'mine.toml'")
    assert said in told


@pytest.mark.parametrize("name", ["~nobody-at-all/mine.toml", "a" * 300 + ".toml"])
def test_a_list_that_cannot_be_named_is_told(hub: Hub, name, capsys) -> None:
    assert code_of("weights", "list", "--weights-list", name) == 4
    assert "cannot be read" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["[1]", '{"net": "x", "config": "{}", "format": null}'])
def test_a_foreign_pt2_file_whose_label_is_no_label_is_told(hub: Hub, text, capsys) -> None:
    with zipfile.ZipFile("net.pt2", "w") as file:
        file.writestr("net/extra/deblur.json", text)
    assert code_of("weights", "info", "net.pt2") == 4
    assert "deblur.json is no table of texts" in capsys.readouterr().err


def test_a_list_of_the_user_takes_no_name_of_ours_but_may_move_an_alias(here: Hub, tiny: Path) -> None:
    name = list_with(tiny.read_bytes())
    text = Path(name).read_text()
    Path(name).write_text(text.replace("[mine]", "[default]"))
    assert code_of("weights", "list", "--weights-list", name) == 4
    Path(name).write_text('[aliases]\ndefault = "mine"\n' + text)
    assert weights.locate("default", listed=name).read_bytes() == tiny.read_bytes()
    assert {each.name: each.aliases for each in workflow.listing(ListOptions(weights_list=name))}["mine"] == (
        "default",
    )


def test_a_photo_is_restored_by_weights_of_the_hub_and_then_without_it(here: Hub, tiny: Path, capsys) -> None:
    assert code_of(photo(), "-o", "hub.png", "--weights", ADDRESS) == 0
    assert f"fetching {ADDRESS}" in capsys.readouterr().err
    asked = len(here.asked)
    assert code_of("a.png", "-o", "offline.png", "--weights", ADDRESS, "--offline") == 0
    assert code_of("a.png", "-o", "file.png", "--weights", str(tiny)) == 0
    assert Path("hub.png").read_bytes() == Path("offline.png").read_bytes() == Path("file.png").read_bytes()
    assert "fetching" not in capsys.readouterr().err
    assert len(here.asked) == asked


def test_a_dry_run_fetches_nothing_but_knows_the_names(here: Hub, tiny: Path, capsys) -> None:
    said = list_with(tiny.read_bytes())
    assert code_of(photo(), "--weights", "mine", "--weights-list", said, "--dry-run") == 0
    assert code_of("a.png", "--weights", "yours", "--weights-list", said, "--dry-run") == 4
    assert "nor one of" in capsys.readouterr().err
    assert here.asked == []


def test_offline_weights_that_are_not_here_are_told(here: Hub, capsys) -> None:
    assert code_of(photo(), "--weights", ADDRESS, "--offline") == 4
    assert f"Say deblur weights pull {ADDRESS} where there is a network" in capsys.readouterr().err
    assert sorted(each.name for each in Path().iterdir()) == ["a.png"]
    assert here.asked == []


def test_a_benchmark_takes_weights_of_the_hub(here: Hub, tiny: Path, monkeypatch, capsys) -> None:
    for folder in ("blur", "sharp"):
        Path(folder).mkdir()
        photo(f"{folder}/a.png")
    monkeypatch.setenv("DEBLUR_WEIGHTS_LIST", list_with(tiny.read_bytes()))
    words = ("benchmark", "--dataset", "pairs", "--data", ".", "--weights", "mine", "--output", "results.json")
    assert code_of(*words, "--offline") == 4
    assert code_of(*words) == 0
    assert "fetching mine" in capsys.readouterr().err
    assert json.loads(Path("results.json").read_text())["weights"][0]["name"] == "mine"


def test_what_needs_no_torch_does_not_load_it(hub: Hub) -> None:
    program = """
import sys
from deblur_cli.cli import main
for words in (["list"], ["info", "default"], ["verify"], ["pull", "default"], ["list", "--json"], []):
    try:
        main(["weights", *words])
    except SystemExit as stop:
        assert not stop.code, words
assert not {"torch", "PIL", "huggingface_hub", "timm"} & set(sys.modules)
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stderr


def test_the_library_says_nothing_in_a_process_that_imports_it_only_now(here: Hub, tiny: Path) -> None:
    here.cuts = 1
    done = subprocess.run(
        [sys.executable, "-m", "deblur_cli", "weights", "pull", ADDRESS],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"PYTHONPATH": str(ROOT), "HF_HUB_DISABLE_XET": "1"},
    )
    assert (done.returncode, done.stdout) == (0, "")
    assert [line.split()[0] for line in done.stderr.splitlines()] == ["fetching", ADDRESS]


def test_ctrl_c_ends_a_download_tidily(here: Hub, capsys) -> None:
    here.silent = "store"
    settings = {"PYTHONPATH": str(ROOT), "HF_HUB_DISABLE_XET": "1", "HF_HUB_DOWNLOAD_TIMEOUT": "60"}
    with subprocess.Popen(
        [sys.executable, "-m", "deblur_cli", "weights", "pull", ADDRESS],
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | settings,
    ) as process:
        deadline = time.monotonic() + 30
        while not here.requests("store") and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 130
        assert process.stderr is not None
        assert "Traceback" not in process.stderr.read()
    assert places.cached(places.parse(ADDRESS)) is None


def test_a_checkpoint_is_published_and_its_row_leads_back_to_it(hub: Hub, tiny: Path, monkeypatch, capsys) -> None:
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    words = ("weights", "publish", str(tiny), "--repo", "owner/unet-tests-1", "--protocol", "By nobody.")
    assert code_of(*words, "--licence", "CC-BY-NC-4.0") == 0
    told = capsys.readouterr()
    made = hub.repositories["owner/unet-tests-1"]
    assert "nothing tells how" not in told.err
    assert made.private
    assert sorted(made.files) == ["README.md", "config.json", "unet-tests-1.safetensors"]
    assert f"making the private repository {hub.url}/owner/unet-tests-1" in told.err
    row = tomllib.loads(told.out)["unet-tests-1"]
    assert (row["revision"], row["licence"], row["non_commercial"]) == (SECOND, "CC-BY-NC-4.0", True)
    assert row["scores"] == {"psnr val": 31.5}
    Path("mine.toml").write_text(told.out)
    assert code_of(photo(), "--weights", "unet-tests-1", "--weights-list", "mine.toml", "-o", "b.png") == 0
    assert "not for commercial use" in capsys.readouterr().err
    label = checkpoint.read_label(weights.locate("unet-tests-1", listed="mine.toml", offline=True))
    assert (label.licence, label.scores) == ("CC-BY-NC-4.0", {"psnr val": 31.5})
    card = made.files["README.md"].decode()
    assert card.startswith("---\nlicense: cc-by-nc-4.0\nlibrary_name: deblur-cli\npipeline_tag: image-to-image\n")
    for part in (
        "| psnr val | 31.5 |",
        "By nobody.",
        "nothing at all",
        "hf://owner/unet-tests-1/unet-tests-1.safet",
        row["sha256"],
    ):
        assert part in card
    config = json.loads(made.files["config.json"])
    assert (config["net"], config["config"]["width"], config["licence"]) == ("unet", 4, "CC-BY-NC-4.0")


def test_what_is_published_twice_is_one_repository_and_public_only_when_said(
    hub: Hub, tiny: Path, monkeypatch, capsys
) -> None:
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    words = ("weights", "publish", str(tiny), "--repo", "owner/net", "--licence", "MIT", "--name", "unet-x")
    hub.repositories["owner/net"] = Repository()
    assert code_of(*words) == 4
    told = capsys.readouterr().err
    assert "owner/net is public: everybody would see the weights" in told
    assert "nothing tells how the scores were measured" in told
    assert hub.repositories["owner/net"].files == {}
    for _ in range(2):
        assert code_of(*words, "--public", "--json", "-q") == 0
        (told,) = lines(capsys)
        assert (told["name"], told["hub"], told["revision"]) == ("unet-x", "owner/net", SECOND)
        assert told["row"].startswith("[unet-x]\n")
    assert not hub.repositories["owner/net"].private


def test_what_cannot_be_published_is_told_before_anything_is_sent(hub: Hub, tiny: Path, monkeypatch, capsys) -> None:
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    assert code_of("weights", "publish", str(tiny), "--repo", "owner/net") == 4
    assert "gives as licence 'that of whoever trained it', which the Hub does not know" in capsys.readouterr().err
    Path("torn.safetensors").write_bytes(tiny.read_bytes()[:-10])
    assert code_of("weights", "publish", "torn.safetensors", "--repo", "owner/net", "--licence", "MIT") == 4
    assert "torn" in capsys.readouterr().err
    assert code_of("weights", "publish", str(tiny), "--repo", "net", "--licence", "MIT") == 2
    assert code_of("weights", "publish", str(tiny), "--repo", "owner/net", "--name", "A b", "--licence", "MIT") == 2
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert code_of("weights", "publish", str(tiny), "--repo", "owner/net", "--licence", "MIT") == 4
    assert hub.asked == []


@pytest.mark.parametrize(
    ("repository", "token", "said"),
    [
        ("owner/net", "", "the Hub does not know who you are"),
        ("owner/net", "hf_wrong", "the Hub does not know who you are"),
        ("stranger/net", TOKEN, "you may not write to stranger/net"),
    ],
)
def test_a_hub_that_does_not_let_us_publish_is_told(
    hub: Hub, tiny: Path, repository, token, said, monkeypatch, capsys
) -> None:
    if token:
        monkeypatch.setenv("HF_TOKEN", token)
    assert code_of("weights", "publish", str(tiny), "--repo", repository, "--licence", "MIT") == 4
    told = capsys.readouterr().err
    assert f"Nothing was published at {hub.url}/{repository}: {said}." in told
    assert "hf auth login" in told
    assert "hf repos delete" not in told  # there is nothing to take away
    assert "hf_wrong" not in told
    assert hub.repositories == {}


@pytest.mark.parametrize("ours", [True, False], ids=["made", "found"])
def test_a_repository_that_a_failure_leaves_empty_is_told_and_how_it_goes_away(
    ours: bool, hub: Hub, tiny: Path, monkeypatch, capsys
) -> None:
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    hub.refused = "The card is wrong."
    if not ours:
        hub.repositories["owner/net"] = Repository(private=True)
    words = ("weights", "publish", str(tiny), "--repo", "owner/net", "--licence", "MIT")
    assert code_of(*words) == 4
    told = capsys.readouterr().err
    assert "Nothing was published" in told
    assert "The card is wrong." in told
    assert ("The repository that was made for it is there, and empty." in told) is ours
    assert (f"hf repos delete owner/net removes it, as does {hub.url}/owner/net/settings." in told) is ours
    hub.refused = ""
    assert code_of(*words) == 0  # it is used


def test_what_others_published_is_fetched_and_converted_and_restores_photos_alike(hub: Hub, capsys) -> None:
    from deblur_cli.nets.nafnet import NAFNet, NAFNetConfig

    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = NAFNet(NAFNetConfig(width=4, encoder=(1, 1, 1, 1)))
    torch.save({"params": net.state_dict()}, "NAFNet.pth")
    hub.repositories["owner/net"] = Repository(files={"NAFNet.pth": Path("NAFNet.pth").read_bytes()})
    address = f"hf://owner/net@{FIRST}/NAFNet.pth"
    assert code_of("weights", "convert", address, "-o", "ours.safetensors", "--json") == 0
    told = capsys.readouterr()
    (made,) = [json.loads(line) for line in told.out.splitlines()]
    assert (made["net"], made["licence"]) == ("nafnet", "MIT")
    assert made["parameters"] == sum(each.numel() for each in net.state_dict().values())
    assert f"fetching {address}" in told.err
    assert code_of("weights", "convert", address, "-o", "ours.safetensors") == 2
    assert code_of("weights", "convert", address, "-o", "ours.safetensors", "--overwrite", "--offline", "-q") == 0
    assert code_of("weights", "convert", address, "-o", "ours.pth") == 2
    assert code_of("weights", "convert", "ours.safetensors", "-o", "again.safetensors") == 4
    for name, source in (("a", address), ("b", "ours.safetensors")):
        assert code_of(photo(), "-o", f"{name}-sharp.png", "--weights", source, "--precision", "fp32") == 0
    assert Path("a-sharp.png").read_bytes() == Path("b-sharp.png").read_bytes()
