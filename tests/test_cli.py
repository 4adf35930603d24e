"""The words of the command: all there, all checked, and quick to answer."""

import json
import os
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest
import typer

import deblur_cli
from deblur_cli import __version__
from deblur_cli.cli import app, main
from deblur_cli.errors import UsageError
from deblur_cli.options.deblur import DeblurOptions

HEAVY = {"torch", "PIL", "numpy", "cv2", "torchvision", "timm", "safetensors", "tifffile", "huggingface_hub"}

COLOURS = {"GITHUB_ACTIONS", "FORCE_COLOR", "PY_COLORS", "DEBLUR_DEBUG"}
PLAIN = {name: value for name, value in os.environ.items() if name not in COLOURS} | {
    "COLUMNS": "120",
    "PYTHONPATH": str(Path(deblur_cli.__file__).parents[1]),
}

OPTIONS = """\
--compare --compile --device --dry-run --engine --format --help --json --manifest --max-memory --offline --output --overlap
--overwrite --precision --quality --quiet --recursive --shard --skip-existing --strength --strip-metadata --suffix --tile
--tta --verbose --version --weights --weights-list --workers -h -o -q -r -v
"""


def code_of(words: list[str]) -> int:
    with pytest.raises(SystemExit) as stop:
        main(words)
    return int(stop.value.code or 0)


def deblur_command():
    return typer.main.get_command(app).commands["deblur"]


def test_the_list_of_options_is_the_one_that_was_decided():
    context = deblur_command().make_context("deblur", ["x"], resilient_parsing=True)
    said = {word for each in deblur_command().get_params(context) for word in each.opts if word.startswith("-")}
    assert sorted(said) == sorted(OPTIONS.split())


def test_every_option_has_a_word_and_every_field_an_option():
    context = deblur_command().make_context("deblur", ["x"], resilient_parsing=True)
    params = {each.name: each for each in deblur_command().get_params(context)}
    assert {each.name for each in fields(DeblurOptions)} == set(params) - {"help", "version"}
    assert all(len(each.help) > 10 for name, each in params.items() if name != "help")


ANSWERS = [
    ([], 0, "Usage: deblur [OPTIONS]"),
    (["--help"], 0, "Exit codes: 0 all done"),
    (["-h"], 0, "--strength"),
    (["--help"], 0, "deblur train: Train a net"),
    (["--help"], 0, "deblur weights: List, fetch, verify, convert and publish weights."),
    (["weights", "--help"], 0, "publish"),
    (["weights", "pull"], 2, "Missing argument"),
    (["weights", "convert", "x.pth", "-o", "x.pth"], 2, "does not end in .safetensors"),
    (["--help"], 0, "deblur distill-teacher: Train the semantic prior"),
    (["deblur", "--help"], 0, "Usage: deblur deblur [OPTIONS]"),
    (["--version"], 0, f"deblur {__version__}"),
    (["--strength", "2", "photo.jpg"], 2, "deblur: --strength 2 is not between 0 and 1."),
    (["--frobnicate", "photo.jpg"], 2, "deblur: No such option: --frobnicate"),
    (["photo.jpg", "--tile", "wide"], 2, "a number of pixels"),
    (["photo.jpg", "--tile", "--5"], 2, "a number of pixels"),
    (["--json"], 2, "Missing argument"),
    (["photo.jpg", "-o", "sharp.raw"], 2, "deblur: -o 'sharp.raw' does not end in a format that can be written."),
    (["photo.jpg", "-o", "sharp.png", "--format", "jpg"], 2, "contradict"),
    (["photo.jpg", "--format", "docx"], 2, "--format docx cannot be written."),
]


def test_help_version_and_usage_errors_answer_without_the_heavy_libraries():
    program = f"""
import io, json, sys
from contextlib import redirect_stderr, redirect_stdout
from deblur_cli.cli import main
answers = []
for words in {[words for words, _, _ in ANSWERS]!r}:
    said = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
    with redirect_stdout(said), redirect_stderr(said):
        try:
            main(words)
        except SystemExit as stop:
            said.flush()
            answers.append((stop.code, said.buffer.getvalue().decode()))
loaded = sorted({{name.split(".")[0] for name in sys.modules}} & set({sorted(HEAVY)!r}))
print(json.dumps([answers, loaded]))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, env=PLAIN)
    answers, loaded = json.loads(done.stdout)
    for (words, code, said), (got, text) in zip(ANSWERS, answers, strict=True):
        assert (words, got) == (words, code)
        assert said in text
        assert "<bool>" not in text.replace("--help  -h      <bool>", "")
    assert loaded == []


def test_python_m_is_the_command():
    done = subprocess.run(
        [sys.executable, "-m", "deblur_cli", "--version"], capture_output=True, text=True, check=True, env=PLAIN
    )
    assert done.stdout == f"deblur {__version__}\n"


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"strength": -0.1}, "--strength -0.1"),
        ({"strength": float("nan")}, "--strength nan"),
        ({"quality": 0}, "--quality 0"),
        ({"quality": 101}, "--quality 101"),
        ({"tile": -3}, "--tile -3"),
        ({"tile": 8}, "--tile 8"),
        ({"overlap": -1}, "--overlap -1"),
        ({"overlap": 80, "tile": 128}, "--overlap 80 is more than half of --tile 128"),
        ({"precision": "int8"}, "--precision int8"),
        ({"device": "gpu"}, "--device gpu"),
        ({"suffix": "../x"}, "--suffix"),
        ({"overwrite": True, "skip_existing": True}, "--overwrite and --skip-existing"),
        ({"quiet": True, "verbose": True}, "--quiet and --verbose"),
        ({"inputs": ("-", "photo.jpg")}, "stands alone"),
        ({"inputs": ("",)}, "empty word"),
        ({"output": "-", "json": True}, "--json"),
        ({"output": "-", "compare": True}, "--compare"),
        ({"output": "-", "skip_existing": True}, "--skip-existing"),
    ],
)
def test_options_that_do_not_fit_are_refused_in_a_sentence_that_names_them(values, said):
    with pytest.raises(UsageError) as refused:
        DeblurOptions(**{"inputs": ("photo.jpg",), **values})
    assert said in refused.value.message
    assert refused.value.hint.endswith((".", "later."))


@pytest.mark.parametrize("values", [{"tile": 0}, {"tile": 64}, {"device": "cuda:1"}, {"strength": 0}, {"suffix": ""}])
def test_options_at_their_limits_are_accepted(values):
    DeblurOptions(inputs=("photo.jpg",), **values)


def test_a_usage_error_is_one_sentence_and_one_hint_on_standard_error(capsys):
    assert code_of(["photo.jpg", "--quality", "0"]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err == "deblur: --quality 0 is not between 1 and 100.\nLeave it out for 95.\n"


def test_debug_shows_the_traceback_of_an_error(monkeypatch):
    monkeypatch.setenv("DEBLUR_DEBUG", "1")
    with pytest.raises(UsageError):
        main(["photo.jpg", "--quality", "0"])


def test_a_first_word_that_is_no_subcommand_belongs_to_deblur_deblur(tmp_path: Path, capsys):
    missing = str(tmp_path / "missing.jpg")
    short, long = (code_of([*words, missing, "--quality", "0"]) for words in ([], ["deblur"]))
    said = capsys.readouterr().err.splitlines()
    assert short == long == 2
    assert said[:2] == said[2:]


def test_a_photo_whose_name_begins_with_a_dash_is_told_how_to_be_named(tmp_path: Path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("-x.jpg").touch()
    assert code_of(["-x.jpg"]) == 2
    assert capsys.readouterr().err == "deblur: No such option: -x\nSay ./-x.jpg for the photo of that name.\n"


def run_by(shell: str) -> tuple[int, str]:
    """Exit code and complaints of a shell line, where "$@" is the command."""
    words = ["sh", "-c", shell, "sh", sys.executable, "-m", "deblur_cli"]
    done = subprocess.run(words, capture_output=True, text=True, check=False, env=PLAIN)
    return done.returncode, done.stderr


@pytest.mark.parametrize(
    "words",
    [
        "benchmark --dataset pairs --data ~nobody-at-home/set",
        "benchmark --dataset pairs --data . --ablation ~nobody-at-home/runs",
        "weights publish ~nobody-at-home/net.safetensors --repo somebody/net",
        "~nobody-at-home/photo.jpg -o sharp.jpg",
    ],
)
def test_the_home_of_a_user_whom_nobody_knows_is_a_path_that_does_not_exist(words: str, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert code_of(words.split()) in {3, 4}
    assert "~nobody-at-home" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_help_that_nobody_reads_on_ends_quietly():
    program = "import sys; from deblur_cli.cli import main; main(['--help'])"
    with subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=PLAIN
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == ""


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a disk that is full")
def test_an_output_that_takes_nothing_is_told_in_a_sentence():
    for line in ("--version >/dev/full", "--version >&-", "--help >/dev/full", "--help >&-"):
        code, said = run_by(f'"$@" {line}')
        assert code == 3
        assert said.startswith("deblur: Standard output cannot be written: ")
        assert len(said.splitlines()) == 2


@pytest.mark.skipif(sys.platform == "win32", reason="needs a shell")
def test_streams_that_are_closed_are_no_reason_to_fail():
    assert run_by('"$@" - -o sharp.jpg <&-') == (
        3,
        "deblur: 'standard input' is empty: the file has zero bytes.\nCopy it again from where it came.\n",
    )
    assert run_by('"$@" missing.jpg 2>&-') == (3, "")
