"""A page to look at, and the table beside what the paper reports."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path

from small_benchmark import LAYOUTS, code_of, pair, plain, run

from deblur_cli.scorer import page, scores


class _Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.links += [value or "" for name, value in attrs if name in {"src", "href"}]


def test_the_page_is_whole_in_itself(tmp_path: Path, nets) -> None:
    plain(tmp_path, 5)
    pair("blur/a&b<i>.png", "sharp/a&b<i>.png", error=30)
    run("pairs", tmp_path, nets, report="page")
    text = Path("page/index.html").read_text()
    read = _Page()
    read.feed(text)
    assert read.tags.count("figure") == 6  # best, median and worst of two nets
    assert read.tags.count("circle") == 12
    assert read.links
    assert all(link.startswith("data:image/") for link in read.links)
    assert "http" not in re.sub(r"data:image/[^\"]+", "", text)
    assert "<i>" not in text


def test_a_page_of_somebody_else_is_not_replaced(tmp_path: Path, nets, capsys) -> None:
    plain(tmp_path, 2)
    words = ("benchmark", "--dataset", "pairs", "--data", str(tmp_path), "--weights", nets[0], "--report", "page")
    Path("page").mkdir()
    Path("page/index.html").write_text("<title>my own site</title>")
    assert code_of(*words) == 2
    assert "there already" in capsys.readouterr().err
    assert "my own" in Path("page/index.html").read_text()
    assert code_of(*words, "--overwrite") == code_of(*words) == 0
    assert "deblur benchmark" in Path("page/index.html").read_text()


def test_the_page_shows_the_best_the_median_and_the_worst() -> None:
    def score(gain: float) -> scores.Score:
        both = {"before": {"psnr": 20.0}, "after": {"psnr": 20.0 + gain}}
        facts = {"kind": "", "weights": "w", "width": 1, "height": 1, "seconds": 1.0, "tile": (1, 1), "memory": None}
        return scores.Score(name=f"{gain}", **facts, **both)

    chosen = page.choose([score(gain) for gain in (0.5, -1, 3, 2, 1)])
    assert [(place, each.name) for place, each in chosen] == [("best", "3"), ("median", "1"), ("worst", "-1")]
    assert [place for place, _ in page.choose([score(1), score(2)])] == ["best", "worst"]
    assert len(page.choose([score(1)])) == 1


def test_the_paper_stands_beside_the_measured_rows_and_is_marked(tmp_path: Path, nets, capsys) -> None:
    pair(*LAYOUTS["gopro"], error=8)
    words = ("benchmark", "--data", str(tmp_path), "--weights", nets[0], "--limit", "1", "--compare-paper")
    assert code_of(*words, "--output", "r.json") == 0
    shown = capsys.readouterr().out
    assert "2-D" in shown
    lines = [line for line in shown.splitlines() if "UNet+SP" in line]
    assert lines
    assert all("reported, arXiv 2302.06898" in line for line in lines)
    assert "31.06" in lines[0]
    assert "0.17" not in lines[0]  # the paper's seconds, read by another clock
    assert any("31.20" in line for line in shown.splitlines() if "DMPHN" in line)
    whole = json.loads(Path("r.json").read_text())
    assert len(whole["reported"]) == 17
    assert (whole["images"], whole["images of the set"]) == (1, 1111)
