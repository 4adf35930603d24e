"""What goes to the Hub beside a checkpoint: the model card for people, config.json for programs."""

import json
import re
from collections.abc import Mapping
from dataclasses import asdict

from deblur_cli.files.label import Label
from deblur_cli.files.rows import Entry

_LICENCES = frozenset(
    {"apache-2.0", "mit", "bsd-2-clause", "bsd-3-clause", "isc", "unlicense", "cc0-1.0", "cc-by-4.0", "cc-by-sa-4.0"}
    | {"cc-by-nc-4.0", "cc-by-nc-sa-4.0", "cc-by-nc-nd-4.0", "gpl-3.0", "lgpl-3.0", "agpl-3.0", "mpl-2.0", "openrail"}
)
"""Licences that the Hub knows by these names, and weights are given under."""
_SECTIONS = """\
# {name}

Weights of the net `{net}`{guided} that take the motion blur out of photographs, for the command
[`deblur`](https://pypi.org/project/deblur-cli/).

## Use

```
pip install deblur-cli
deblur photo.jpg -o sharp.jpg --weights hf://{hub}/{file}
```

The file has {size:,} bytes and the SHA-256 `{sha256}`.

## Scores

{scores}

## Data

Trained on: {trained_on}

Made with: {made_with}
{notes}
## Licence

{licence}{commercial}
"""


def knows(licence: str) -> bool:
    """Whether the Hub has a name for this licence."""
    return licence.lower() in _LICENCES


def is_non_commercial(licence: str) -> bool:
    """Whether the name of a licence says that it forbids commercial use."""
    return re.search(r"\bnc\b|non-?commercial", licence.lower()) is not None


def write(entry: Entry, label: Label) -> str:
    """The model card, Markdown with the head that the Hub reads.

    Args:
        entry: the row that the weights will have.
        label: of the checkpoint.
    """
    scores = _table(entry.scores) or "None were measured."
    if entry.protocol and entry.scores:
        scores = f"{entry.protocol}\n\n{scores}"
    if entry.precisions:
        changes = ", ".join(f"{name} {change:+.4f} dB" for name, change in entry.precisions.items())
        scores += f"\n\nPSNR in reduced precision against fp32: {changes}."
    body = _SECTIONS.format(
        name=entry.name,
        net=entry.net,
        guided=", guided by a semantic prior," if entry.prior else "",
        hub=entry.hub,
        file=entry.file,
        size=entry.size,
        sha256=entry.sha256,
        scores=scores,
        trained_on=entry.trained_on,
        made_with=label.made_with,
        notes=f"\n{label.notes}\n" if label.notes else "",
        licence=entry.licence,
        commercial="; not for commercial use" if entry.non_commercial else "",
    )
    return _head(entry) + body


def config(entry: Entry, label: Label) -> str:
    """``config.json``: the label, by which the Hub also counts downloads."""
    told = {"library_name": "deblur-cli", "name": entry.name, "file": entry.file, **asdict(label)}
    return json.dumps({**told, "licence": entry.licence}, indent=2, default=dict) + "\n"


def _head(entry: Entry) -> str:
    known = knows(entry.licence)
    lines = [f"license: {entry.licence.lower() if known else 'other'}"]
    if not known:
        lines.append(f"license_name: {re.sub(r'[^a-z0-9.]+', '-', entry.licence.lower()).strip('-')}")
    lines += ["library_name: deblur-cli", "pipeline_tag: image-to-image", "tags:"]
    lines += [f"- {tag}" for tag in ("deblurring", "motion-blur", "image-restoration", entry.net)]
    return "\n".join(["---", *lines, "---", "", ""])


def _table(scores: Mapping[str, float]) -> str:
    if not scores:
        return ""
    rows = [f"| {name} | {value:g} |" for name, value in scores.items()]
    return "\n".join(["| measure | value |", "|---|---|", *rows])
