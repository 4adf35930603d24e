"""One page that shows what scores mean: tables, a plot of gain against severity, and pictures to slide over.

The page needs nothing but itself: pictures, style and the few lines of script are inside.
"""

import base64
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from deblur_cli.scorer.reported import Reported
from deblur_cli.scorer.scores import Row, Score

_WIDEST = 1280
_CROP = 160
_ZOOM = 2
_QUALITY = 90
_COLOURS = ("#0b6e99", "#d9730d", "#448361", "#9065b0", "#c14c8a", "#787774")
_MEASURES = {
    "psnr": "PSNR",
    "ssim": "SSIM",
    "ssim2d": "SSIM 2-D",
    "psnr unaligned": "PSNR unaligned",
    "lpips alex": "LPIPS alex",
    "lpips vgg": "LPIPS vgg",
}
_STYLE = """
:root { color-scheme: light dark }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 1100px; margin: 2rem auto; padding: 0 1rem }
table { border-collapse: collapse; margin: 1rem 0; font-variant-numeric: tabular-nums }
th, td { padding: .2rem .8rem; text-align: right; border-bottom: 1px solid #8884 } th:first-child, td:first-child,
th:nth-child(2), td:nth-child(2) { text-align: left } .reported { opacity: .7; font-style: italic }
.scroll { overflow-x: auto } figure { margin: 2rem 0 } figcaption { margin-bottom: .4rem }
.slide { position: relative; --at: 50% } .slide img { display: block; width: 100% }
.slide img + img { position: absolute; inset: 0; clip-path: inset(0 0 0 var(--at)) }
.slide::after { content: ""; position: absolute; top: 0; bottom: 0; left: var(--at); width: 2px; background: #fff;
mix-blend-mode: difference }
.slide + input { width: 100%; margin: .3rem 0 0 }
.crops { display: flex; flex-wrap: wrap; gap: .6rem } .crops span { display: block; font-size: .85rem }
.crops img { image-rendering: pixelated; max-width: 100% } svg { max-width: 100%; height: auto }
"""
_SCRIPT = """
for (const range of document.querySelectorAll('.slide + input'))
  range.addEventListener('input', () => range.previousElementSibling.style.setProperty('--at', range.value + '%'));
"""

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
    sharp: Pixels


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
) -> str:
    """The whole page.

    Args:
        title: what was measured.
        facts: sentences on how, such as the protocol.
        rows: the table.
        reported: what a paper reports of the same data set.
        scores: a dot in the plot for each.
        pictures: from :func:`choose`.
    """
    parts = [
        f"<h1>{escape(title)}</h1>",
        *(f"<p>{escape(fact)}</p>" for fact in facts),
        _table(rows, reported),
        "<h2>Gain against severity</h2>",
        "<p>Each dot is an image: to the left the severest blur, above the line what was won.</p>",
        _plot(scores),
        "<h2>Best, median and worst by gain</h2>",
        *(_figure(picture) for picture in pictures),
    ]
    head = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head>"
    )
    return head + "<body>" + "\n".join(parts) + f"<script>{_SCRIPT}</script></body></html>\n"


def _table(rows: Sequence[Row], reported: Sequence[Reported]) -> str:
    measures = list(rows[0].after)
    names = [_MEASURES.get(name, name) for name in measures]
    head = ["Weights", "Images", "", *names, "Gain", "Worse", "s/image"]
    lines = ["".join(f"<th>{escape(name)}</th>" for name in head)]
    for row in rows:
        values = [f"{row.after[name]:.{2 if name.startswith('psnr') else 4}f}" for name in measures]
        cells = [row.weights, row.group, str(row.images), *values]
        cells += [f"{row.gain:+.2f}", f"{row.worse:.1%}", f"{row.seconds:.3f}"]
        lines.append("".join(f"<td>{escape(cell)}</td>" for cell in cells))
    for each in reported:
        known = {"psnr": each.psnr, "ssim": each.ssim}
        cells = [f"{each.method} (reported, {each.source})", "all", ""]
        cells += ["-" if known.get(name) is None else f"{known[name]}" for name in measures]
        cells += ["-", "-", "-" if each.seconds is None else f"{each.seconds}"]
        lines.append("".join(f'<td class="reported">{escape(cell)}</td>' for cell in cells))
    return '<div class="scroll"><table>' + "".join(f"<tr>{line}</tr>" for line in lines) + "</table></div>"


def _plot(scores: Sequence[Score]) -> str:
    """Gain over the PSNR of the input, a colour for each set of weights."""
    dots = [score for score in scores if math.isfinite(score.before["psnr"]) and math.isfinite(score.gain)]
    if not dots:
        return "<p>No image has a finite PSNR.</p>"
    across, up = [score.before["psnr"] for score in dots], [score.gain for score in dots]
    low, high = math.floor(min(across)), math.ceil(max(across) + 0.01)
    bottom, top = math.floor(min(*up, 0)), math.ceil(max(*up, 0.01))
    names = list(dict.fromkeys(score.weights for score in scores))

    def place(x: float, y: float) -> tuple[float, float]:
        return 60 + 800 * (x - low) / (high - low), 20 + 320 * (top - y) / (top - bottom)

    parts: list[str] = []
    for value in _ticks(bottom, top):
        _, y = place(low, value)
        parts.append(f'<path d="M60 {y:.1f}H860" stroke="{"#000" if value == 0 else "#8884"}"/>')
        parts.append(f'<text x="52" y="{y + 4:.1f}" text-anchor="end">{value:+d}</text>')
    for value in _ticks(low, high):
        x, _ = place(value, bottom)
        parts.append(f'<text x="{x:.1f}" y="362" text-anchor="middle">{value}</text>')
    for score, x, y in zip(dots, across, up, strict=True):
        left, down = place(x, y)
        colour = _COLOURS[names.index(score.weights) % len(_COLOURS)]
        label = f"<title>{escape(f'{score.name}: {x:.2f} dB, {y:+.2f} dB')}</title>"
        parts.append(
            f'<circle cx="{left:.1f}" cy="{down:.1f}" r="3" fill="{colour}" fill-opacity=".6">{label}</circle>'
        )
    for index, name in enumerate(names):
        colour = _COLOURS[index % len(_COLOURS)]
        parts.append(
            f'<text x="850" y="{36 + 18 * index}" text-anchor="end" style="fill:{colour}">{escape(name)}</text>'
        )
    parts.append(
        '<text x="460" y="384" text-anchor="middle">PSNR of the blurred image, dB; the gain in dB upwards</text>'
    )
    return (
        '<svg viewBox="0 0 880 392" width="880" role="img" style="background:#fff" font-family="system-ui, sans-serif" '
        f'font-size="13" fill="#333">{"".join(parts)}</svg>'
    )


def _ticks(low: int, high: int) -> range:
    step = max(1, math.ceil((high - low) / 10))
    return range(step * math.ceil(low / step), high + 1, step)


def _figure(picture: Picture) -> str:
    score = picture.score
    said = (
        f"{score.weights}, {picture.place}: {score.name}, PSNR {score.before['psnr']:.2f} to {score.after['psnr']:.2f} dB "
        f"({score.gain:+.2f})"
    )
    whole = [_embedded(_reduced(image), "jpeg") for image in (picture.blurred, picture.restored)]
    top, left = _busiest(picture.blurred, picture.sharp)
    crops = "".join(
        f'<div><span>{name}</span><img alt="{name}" src="{_embedded(_crop(image, top, left), "png")}"></div>'
        for name, image in (("blurred", picture.blurred), ("restored", picture.restored), ("sharp", picture.sharp))
    )
    return (
        f'<figure><figcaption>{escape(said)}</figcaption><div class="slide"><img alt="blurred" src="{whole[0]}">'
        f'<img alt="restored" src="{whole[1]}"></div><input type="range" min="0" max="100" value="50" '
        f'aria-label="blurred to the left, restored to the right"><div class="crops">{crops}</div></figure>'
    )


def _busiest(blurred: Pixels, sharp: Pixels) -> tuple[int, int]:
    """The corner of the crop in which the blur did the most."""
    change = np.abs(blurred.astype(np.int16) - sharp).sum(axis=2, dtype=np.int64)
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
