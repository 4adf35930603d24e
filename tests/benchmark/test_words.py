"""The words of ``deblur benchmark`` that fit together, and those that do not."""

import re

import pytest

from deblur_cli.errors import UsageError
from deblur_cli.options.benchmark import BenchmarkOptions


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"dataset": "kodak"}, "--dataset kodak"),
        ({"protocol": "ours"}, "--protocol ours"),
        ({"dataset": "synthetic"}, "needs sharp photographs"),
        ({"dataset": "blurred"}, "needs blurred photographs"),
        ({"dataset": "blurred", "data": "x", "protocol": "gopro"}, "--protocol gopro does not fit"),
        ({"dataset": "pairs", "protocol": "blind"}, "--protocol blind does not fit"),
        ({"dataset": "blurred", "data": "x", "lpips": "vgg"}, "--lpips needs sharp images"),
        ({"ablation": "x", "weights": ("a",)}, "--ablation brings its own weights"),
        ({"dataset": "reds", "compare_paper": True}, "reports nothing of --dataset reds"),
        ({"output": ("r.txt",)}, "--output r.txt"),
        ({"output": ("a.json", "b.json")}, "two files of one kind"),
        ({"resume": True}, "--resume"),
        ({"output": ("a.json",), "resume": True, "overwrite": True}, "exclude"),
        ({"limit": 0}, "--limit 0"),
        ({"size": "1280"}, "--size 1280"),
        ({"size": "0x10"}, "--size 0x10"),
        ({"weights": ("a", "a")}, "twice"),
        ({"speed_only": True, "report": "x"}, "--report means nothing"),
        ({"peers": False}, "--no-peers means nothing without --speed-only"),
        ({"device": "tpu"}, "--device tpu"),
        ({"dataset": "hide", "download": True}, "--download"),
    ],
)
def test_words_that_do_not_fit_are_refused(more: dict, said: str) -> None:
    with pytest.raises(UsageError, match=re.escape(said)):
        BenchmarkOptions(**more)


def test_a_protocol_brings_its_blur() -> None:
    assert BenchmarkOptions().blur == "blur"
    assert BenchmarkOptions(protocol="nah").blur == "blur_gamma"
    assert BenchmarkOptions(protocol="nah", blur_key="blur").blur == "blur"
    assert BenchmarkOptions(dataset="realblur-r").measured_by == "realblur"
    assert BenchmarkOptions(dataset="realblur-r", protocol="gopro").measured_by == "gopro"
