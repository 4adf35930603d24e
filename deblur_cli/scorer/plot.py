"""Gain against severity as a picture: a dot for each image, a colour for each set of weights."""

import math
from collections.abc import Sequence
from html import escape

from deblur_cli.scorer.scores import MEASURES, Score, main

_COLOURS = ("#1f8fc4", "#d9730d", "#3f9d63", "#9b6bd3", "#d1478f", "#8a8680")
"""Such as can be told apart on white and on black."""
_LEFT, _RIGHT, _TOP, _BOTTOM = 60, 860, 12, 340


def svg(scores: Sequence[Score]) -> str:
    """The plot with its legend, as HTML that takes the colour of the text around it."""
    dots = [score for score in scores if math.isfinite(score.severity) and math.isfinite(score.gain)]
    if not dots:
        return "<p>No image has a finite score.</p>"
    name = main(scores[0].before)
    across, up = [score.before[name] for score in dots], [score.gain for score in dots]
    low, high, along = _axis(min(across), max(across))
    bottom, top, rising = _axis(min(*up, 0.0), max(*up, 0.0))
    names = list(dict.fromkeys(score.weights for score in scores))

    def place(x: float, y: float) -> tuple[float, float]:
        return (
            _LEFT + (_RIGHT - _LEFT) * (x - low) / (high - low),
            _TOP + (_BOTTOM - _TOP) * (top - y) / (top - bottom),
        )

    parts = [_line(place(low, value)[1], value, rising) for value in _ticks(bottom, top, rising)]
    parts += [_number(place(value, bottom)[0], value, along) for value in _ticks(low, high, along)]
    for score, x, y in zip(dots, across, up, strict=True):
        parts.append(_dot(place(x, y), _colour(names, score.weights), f"{score.name}: {score.told}"))
    unit = " in dB" if name == "psnr" else ""
    parts.append(
        f'<text x="{(_LEFT + _RIGHT) / 2}" y="{_BOTTOM + 44}" text-anchor="middle">'
        f"{MEASURES[name]} of the blurred image{unit}; upwards the gain{unit}</text>"
    )
    legend = "".join(f'<span><i style="background:{_colour(names, each)}"></i>{escape(each)}</span>' for each in names)
    return (
        f'<p class="legend">{legend}</p><svg viewBox="0 0 880 392" width="880" role="img" '
        f'aria-label="gain against severity" font-size="13" fill="currentColor">{"".join(parts)}</svg>'
    )


def _colour(names: Sequence[str], name: str) -> str:
    return _COLOURS[names.index(name) % len(_COLOURS)]


def _axis(least: float, most: float) -> tuple[float, float, float]:
    """Where an axis begins and ends, and the step of its ticks: 1, 2 or 5 of a decimal place, about eight of them."""
    rough = max(most - least, 1e-4) / 8
    place = 10.0 ** math.floor(math.log10(rough))
    step = next(place * factor for factor in (1, 2, 5, 10) if place * factor >= rough * 0.999)
    low, high = math.floor(least / step + 1e-9) * step, math.ceil(most / step - 1e-9) * step
    return (low, high, step) if high > low else (low, low + step, step)


def _ticks(low: float, high: float, step: float) -> list[float]:
    return [low + index * step for index in range(round((high - low) / step) + 1)]


def _told(value: float, step: float, sign: str = "") -> str:
    places = max(0, -math.floor(math.log10(step) + 1e-9))
    return "0" if abs(value) < step / 2 else f"{value:{sign}.{places}f}"


def _line(y: float, value: float, step: float) -> str:
    strength = "1" if abs(value) < step / 2 else ".2"
    return (
        f'<path d="M{_LEFT} {y:.1f}H{_RIGHT}" stroke="currentColor" stroke-opacity="{strength}"/>'
        f'<text x="{_LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{_told(value, step, "+")}</text>'
    )


def _number(x: float, value: float, step: float) -> str:
    return f'<text x="{x:.1f}" y="{_BOTTOM + 22}" text-anchor="middle">{_told(value, step)}</text>'


def _dot(place: tuple[float, float], colour: str, told: str) -> str:
    return (
        f'<circle cx="{place[0]:.1f}" cy="{place[1]:.1f}" r="4" fill="{colour}" fill-opacity=".75">'
        f"<title>{escape(told)}</title></circle>"
    )
