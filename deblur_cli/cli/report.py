"""The events of ``deblur PHOTO`` as lines, and what they come to in the end."""

import os
import traceback
from collections import Counter
from dataclasses import fields

from deblur_cli.cli.show import Screen, data
from deblur_cli.commands import deblur as workflow
from deblur_cli.options.deblur import DeblurOptions

_PARTLY = 6


class Report:
    """Tells each event as it comes and keeps count."""

    def __init__(self, options: DeblurOptions, screen: Screen) -> None:
        self._options = options
        self._screen = screen
        self._photos = 0
        self._counts: Counter[str] = Counter()
        self._first_code = 0

    def tell(self, event: workflow.Started | workflow.Opened | workflow.Begun | workflow.Outcome) -> None:
        """Say what happened, to people on standard error and to programs on standard output."""
        match event:
            case workflow.Started():
                self._photos = event.photos
                if event.photos > 1 or event.others or event.earlier or event.elsewhere:
                    self._screen.say(str(event))
                if not self._options.dry_run:
                    self._screen.start(event.photos)
            case workflow.Opened():
                if self._options.verbose:
                    self._screen.say(str(event))
            case workflow.Begun():
                self._screen.begin(str(event))
            case workflow.Outcome():
                self._outcome(event)

    @property
    def exit_code(self) -> int:
        """0 if all went well; the first failure's own code if no photo went well; else the code of a partial failure."""
        return _PARTLY if self._first_code and self._counts["failed"] < self._counts.total() else self._first_code

    def finished(self) -> None:
        """Sum up a batch."""
        if self._photos > 1:
            self._screen.say(self._sum())

    def stopped(self) -> None:
        """Say how far it came; the results that are there are whole."""
        done = self._counts["restored"] + self._counts["skipped"]
        self._screen.complain(
            f"stopped; {done} of {self._photos} photos are done."
            if self._photos > 1
            else f"stopped; {'the photo is done' if done else 'nothing was written'}.",
            self._way_on() if done and self._photos > done else "",
        )

    def _way_on(self) -> str:
        if self._options.manifest is not None:
            return "Say the same again to go on from here."
        return "Say --skip-existing to go on from here."

    def _outcome(self, outcome: workflow.Outcome) -> None:
        self._counts[outcome.status] += 1
        self._first_code = self._first_code or outcome.exit_code
        if self._options.json:
            data({each.name: getattr(outcome, each.name) for each in fields(outcome) if each.name != "cause"})
        if os.environ.get("DEBLUR_DEBUG") and outcome.cause is not None:
            self._screen.say("".join(traceback.format_exception(outcome.cause)).rstrip())
        if outcome.status == "failed":
            self._screen.complain(str(outcome), outcome.hint or "")
        elif outcome.status == "planned" and not self._options.json:
            self._screen.print(str(outcome))
        else:
            details = self._details(outcome) if self._options.verbose else ""
            self._screen.say(str(outcome).replace("\n", "\\n") + details)
            if outcome.damaged:
                self._screen.complain(f"'{outcome.input}' is a damaged JPEG: parts of it are gray or out of place.")
            for notice in outcome.notices:
                self._screen.complain(notice)
        self._screen.done()

    def _details(self, outcome: workflow.Outcome) -> str:
        if outcome.tile is None or outcome.width is None or outcome.height is None or not outcome.seconds:
            return ""
        pace = outcome.width * outcome.height / 1e6 / outcome.seconds
        return f"  {pace:.2f} megapixels/s, tiles of {outcome.tile[0]} x {outcome.tile[1]}"

    def _sum(self) -> str:
        names = {"restored": "restored", "planned": "to restore", "skipped": "skipped", "failed": "failed"}
        return ", ".join(f"{self._counts[key]} {name}" for key, name in names.items() if self._counts[key])
