"""One page that shows what scores mean: tables, a plot of gain against severity, and pictures to slide over.

The page needs nothing but itself: pictures, style and the few lines of script are inside.
"""

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from deblur_cli.scorer import plot
from deblur_cli.scorer.reported import Reported
from deblur_cli.scorer.scores import Row, Score, main
from deblur_cli.scorer.table import Table, table

_WIDEST = 1280
_CROP = 160
_ZOOM = 2
_QUALITY = 90
_STYLE = """
:root { color-scheme: light dark }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 1180px; margin: 2rem auto; padding: 0 1rem; overflow-wrap: anywhere }
.facts { font-size: .85rem; opacity: .8; margin: .2rem 0 }
table { border-collapse: collapse; margin: 1rem 0; font-size: .9rem; font-variant-numeric: tabular-nums; white-space: nowrap }
th, td { padding: .2rem .6rem; text-align: right; border-bottom: 1px solid #8884 } th:first-child, td:first-child,
th:nth-child(2), td:nth-child(2) { text-align: left } .all { font-weight: 600 } .all td { border-top: 1px solid #888 }
.reported { opacity: .7; font-style: italic } .scroll { overflow-x: auto } svg { max-width: 100%; height: auto }
.legend span { display: inline-block; margin-right: 1.5rem } .legend i { display: inline-block; width: .7rem; height: .7rem;
border-radius: 50%; margin-right: .4rem } figure { margin: 2rem 0 } figcaption { margin-bottom: .4rem }
.slide { position: relative; display: inline-block; max-width: 100%; line-height: 0; --at: 50% }
.slide:focus-within { outline: 2px solid #1f8fc4; outline-offset: 2px } .slide img { max-width: 100% }
.slide img + img { position: absolute; inset: 0; clip-path: inset(0 0 0 var(--at)) }
.slide::after { content: ""; position: absolute; top: 0; bottom: 0; left: var(--at); width: 2px; margin-left: -1px;
background: #fff; box-shadow: 0 0 0 1px #000a; pointer-events: none }
.slide b { position: absolute; bottom: .5rem; padding: .1rem .5rem; font-size: .8rem; line-height: 1.4; font-weight: 400;
color: #fff; background: #000a; border-radius: .2rem; pointer-events: none } .slide b.one { left: .5rem }
.slide b.two { right: .5rem } .slide input { position: absolute; inset: 0; width: 100%; height: 100%; margin: 0; opacity: 0;
cursor: ew-resize; touch-action: pan-y } .crops { display: flex; flex-wrap: wrap; gap: .6rem; margin-top: .5rem }
.crops span { display: block; font-size: .85rem } .crops img { image-rendering: pixelated; max-width: 100% }
"""
_SCRIPT = """
for (const range of document.querySelectorAll('.slide input'))
  range.addEventListener('input', () => range.parentElement.style.setProperty('--at', range.value + '%'));
"""
_DOTS = "Each dot is an image; above the line stands what was won, and the severest blur is on the"

Pixels = NDArray[np.uint8]


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """One image to look at."""

    place: str
    """``best``, ``median`` or ``worst`` by gain."""
    score: Score
    blurred: Pixels
    """(H, W, 3), as the two others."""
    restored: Pixels
    sharp: Pixels | None
    """None where it is not known."""


def choose(scores: Sequence[Score]) -> list[tuple[str, Score]]:
    """The best, the median and the worst image by gain for each set of weights; fewer where there are fewer images."""
    found: list[tuple[str, Score]] = []
    for weights in dict.fromkeys(score.weights for score in scores):
        order = sorted(
            (score for score in scores if score.weights == weights), key=lambda score: (-score.gain, score.name)
        )
        places = {0: "best", len(order) // 2: "median", len(order) - 1: "worst"}
        found += [(place, order[index]) for index, place in sorted(places.items())]
    return found


def html(
    title: str,
    facts: Sequence[str],
    rows: Sequence[Row],
    reported: Sequence[Reported],
    scores: Sequence[Score],
    pictures: Sequence[Picture],
    *,
    lpips: str = "none",
) -> str:
    """The whole page.

    Args:
        title: what was measured.
        facts: sentences on how, such as the protocol.
        rows: the table.
        reported: what a paper reports of the same data set.
        scores: a dot in the plot for each.
        pictures: from :func:`choose`.
        lpips: which was asked for: ``none``, ``alex`` or ``vgg``.
    """
    side = "left" if main(rows[0].before) == "psnr" else "right"
    parts = [
        f"<h1>{escape(title)}</h1>",
        *(f'<p class="facts">{escape(fact)}</p>' for fact in facts),
        _table(table(rows, reported, lpips)),
        "<h2>Gain against severity</h2>",
        f"<p>{_DOTS} {side}.</p>",
        plot.svg(scores),
        "<h2>Best, median and worst by gain</h2>",
        *(_figure(picture) for picture in pictures),
    ]
    head = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head>"
    )
    return head + "<body>" + "\n".join(parts) + f"<script>{_SCRIPT}</script></body></html>\n"


def _table(whole: Table) -> str:
    rows = "<tr>" + "".join(f"<th>{escape(name)}</th>" for name in whole.head) + "</tr>"
    for line in whole.lines:
        rows += f'<tr class="{line.sort}">' + "".join(f"<td>{escape(cell)}</td>" for cell in line.cells) + "</tr>"
    return f'<div class="scroll"><table>{rows}</table></div>'


def _figure(picture: Picture) -> str:
    score = picture.score
    said = f"{score.weights}, {picture.place}: {score.name}, {score.told}"
    whole = [_embedded(_reduced(image), "jpeg") for image in (picture.blurred, picture.restored)]
    # Where nothing sharp is known, what the net changed most is what there is to see.
    corner = _busiest(picture.blurred, picture.restored if picture.sharp is None else picture.sharp)
    shown = {"blurred": picture.blurred, "restored": picture.restored, "sharp": picture.sharp}
    crops = "".join(
        f'<div><span>{name}</span><img alt="{name}" src="{_embedded(_crop(image, *corner), "png")}"></div>'
        for name, image in shown.items()
        if image is not None
    )
    return (
        f'<figure><figcaption>{escape(said)}</figcaption><div class="slide"><img alt="blurred" src="{whole[0]}">'
        f'<img alt="restored" src="{whole[1]}"><b class="one">blurred</b><b class="two">restored</b>'
        f'<input type="range" min="0" max="100" value="50" aria-label="blurred to the left, restored to the right"></div>'
        f'<div class="crops">{crops}</div></figure>'
    )


def _busiest(blurred: Pixels, other: Pixels) -> tuple[int, int]:
    """The corner of the crop in which two images differ most."""
    change = np.abs(blurred.astype(np.int16) - other).sum(axis=2, dtype=np.int64)
    total = np.pad(change.cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    height, width = (min(_CROP, side) for side in change.shape)
    sums = total[height:, width:] - total[:-height, width:] - total[height:, :-width] + total[:-height, :-width]
    top, left = np.unravel_index(int(sums.argmax()), sums.shape)
    return int(top), int(left)


def _crop(image: Pixels, top: int, left: int) -> Image.Image:
    part = Image.fromarray(np.ascontiguousarray(image[top : top + _CROP, left : left + _CROP]))
    return part.resize((part.width * _ZOOM, part.height * _ZOOM), Image.Resampling.NEAREST)


def _reduced(image: Pixels) -> Image.Image:
    picture = Image.fromarray(image)
    picture.thumbnail((_WIDEST, _WIDEST), Image.Resampling.LANCZOS)
    return picture


def _embedded(picture: Image.Image, sort: str) -> str:
    data = io.BytesIO()
    picture.save(data, sort, quality=_QUALITY)
    return f"data:image/{sort};base64,{base64.b64encode(data.getvalue()).decode()}"
