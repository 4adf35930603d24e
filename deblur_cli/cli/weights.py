"""The words of ``deblur weights``."""

import os
import sys
import traceback
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, fields
from typing import Any

import typer

from deblur_cli.cli.show import Screen, data
from deblur_cli.cli.words import command, option
from deblur_cli.options.weights import (
    ConvertOptions,
    InfoOptions,
    ListOptions,
    PublishOptions,
    PullOptions,
    VerifyOptions,
)

_HELP = """Look after weights: deblur weights list

A name of deblur weights list, or an address hf://owner/repository@revision/file.safetensors, works wherever deblur asks \
for --weights; what is not here is fetched from the Hugging Face Hub, compared with its SHA-256, and kept in the Hub's cache.

HF_HOME moves that cache, HF_ENDPOINT names a mirror of the Hub, HF_TOKEN opens private repositories, HF_HUB_OFFLINE=1 \
forbids the network, and HF_HUB_DISABLE_XET=1 the newer transfer that not every mirror speaks. DEBLUR_WEIGHTS_LIST names a \
list of your own, in the form of deblur's weights.toml.
"""
_EPILOG = "Exit codes: 0 all done, 2 usage, 3 input, 4 weights, 6 some of several failed, 130 stopped by Ctrl-C."
_PARTLY = 6
_WIDEST = 200

_LISTED = option("Weights", "--weights-list", metavar="FILE", help="A list of your own beside deblur's weights.toml.")
_JSON = option("Report", "--json", help="One line of JSON for each on standard output.")
_QUIET = option("Report", "--quiet", "-q", help="Say nothing but errors.")
_NAMES: Any = typer.Argument(metavar="NAME", help="Names, or addresses hf://…", show_default=False)


def register(app: typer.Typer) -> None:
    """Add ``deblur weights``."""
    group = typer.Typer(no_args_is_help=False, add_completion=False)
    both: dict[str, Any] = {"weights_list": _LISTED, "json": _JSON}
    group.command("list", help="Show the weights that there are, and which of them are here.", epilog=_EPILOG)(
        command(ListOptions, both, _list)
    )
    group.command("info", help="Tell all that is known of weights: by name, address or file.", epilog=_EPILOG)(
        command(
            InfoOptions, {"name": typer.Argument(metavar="NAME", help="A name, an address or a file."), **both}, _info
        )
    )
    group.command("pull", help="Fetch weights from the Hub, or anew if they were changed here.", epilog=_EPILOG)(
        command(PullOptions, {"names": _NAMES, **both, "quiet": _QUIET}, _pull)
    )
    group.command("verify", help="Read weights from end to end; without names, all that are here.", epilog=_EPILOG)(
        command(VerifyOptions, {"names": _NAMES, **both, "quiet": _QUIET}, _verify)
    )
    group.command("convert", help=_CONVERT, epilog=_EPILOG)(command(ConvertOptions, _CONVERTED, _convert))
    group.command("publish", help=_PUBLISH, epilog=_EPILOG)(command(PublishOptions, _PUBLISHED, _publish))

    @group.callback(invoke_without_command=True)
    def weights(context: typer.Context) -> None:  # pyright: ignore[reportUnusedFunction] - Typer uses it
        if context.invoked_subcommand is None:
            print(context.get_help())

    app.add_typer(
        group,
        name="weights",
        help=_HELP,
        epilog=_EPILOG,
        short_help="List, fetch, verify, convert and publish weights.",
    )


_CONVERT = """Make a checkpoint of what others published: deblur weights convert MPRNet.pth -o mprnet.safetensors

A .pth or .pkl is read without running any code in it. Which net it is, is found out by its tensors; the checkpoint says so \
in its label, with the licence of the authors.
"""
_CONVERTED: dict[str, Any] = {
    "source": typer.Argument(metavar="SOURCE", help="A file, a folder, a name, or an address hf://…"),
    "output": option("Weights", "--output", "-o", metavar="FILE", help="The .safetensors file to write."),
    "overwrite": option("Weights", "--overwrite", help="Replace what is there."),
    "weights_list": _LISTED,
    "offline": option("Weights", "--offline", help="Ask no network for weights that are not here."),
    "json": _JSON,
    "quiet": _QUIET,
}
_PUBLISH = """Publish a checkpoint on the Hub: deblur weights publish best.safetensors --repo owner/name

The repository is private unless you say --public. It gets the checkpoint, config.json and a model card made of the label. \
On standard output comes the row for a list of weights, with commit and SHA-256.
"""
_PUBLISHED: dict[str, Any] = {
    "file": typer.Argument(metavar="FILE", help="A .safetensors file that deblur made."),
    "repo": option(
        "Weights", "--repo", metavar="OWNER/NAME", help="The repository on the Hub; made if it is not there."
    ),
    "name": option("Weights", "--name", metavar="NAME", help="Of the weights; else that of the repository."),
    "licence": option("Weights", "--licence", metavar="NAME", help="Of the weights; else what the label says."),
    "protocol": option("Weights", "--protocol", metavar="TEXT", help="How the scores in the label were measured."),
    "public": option("Weights", "--public", help="Let everybody see them."),
    "json": _JSON,
    "quiet": option("Report", "--quiet", "-q", help="Say nothing but the row and errors."),
}


def _list(options: ListOptions) -> None:
    from deblur_cli.commands import weights as workflow

    found = list(workflow.listing(options))
    if options.json:
        for each in found:
            data(asdict(each))
        return
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    grid = Table(box=box.SIMPLE_HEAD)
    for name in ("Name", "Net", "Size", "Licence", "Score", "Here"):
        grid.add_column(name, justify="right" if name == "Size" else "left", no_wrap=name in {"Name", "Size", "Here"})
    for each in found:
        named = " = ".join((each.name, *each.aliases))
        net = each.net + (" with prior" if each.prior else "")
        licence = each.licence + (" (not commercial)" if each.non_commercial else "")
        cells = (named, net, _megabytes(each.size), licence, each.score, "yes" if each.path else "no")
        grid.add_row(*(Text(cell) for cell in cells))
    Console(width=None if sys.stdout.isatty() else _WIDEST, highlight=False).print(grid)


def _info(options: InfoOptions) -> None:
    from deblur_cli.commands import weights as workflow

    found = workflow.info(options)
    if options.json:
        data(asdict(found))
        return
    with Screen() as screen:
        for name, value in _facts(found):
            screen.print(f"{name + ':':<12} {value}")


def _facts(found: Any) -> Iterator[tuple[str, str]]:
    """Lines of ``info``; what is not known is left out."""
    facts = {
        "name": " = ".join((found.name, *found.aliases)),
        "net": found.net + (", guided by a semantic prior" if found.prior else ""),
        "size": f"{_megabytes(found.size)} ({found.size:,} bytes)",
        "sha256": found.sha256,
        "licence": found.licence + ("; not for commercial use" if found.non_commercial else ""),
        "trained on": found.trained_on,
        "scores": ", ".join(f"{name} {value:g}" for name, value in found.scores.items()),
        "protocol": found.protocol,
        "precision": ", ".join(
            [found.precision, *(f"{name} ({value:+.4f} dB)" for name, value in found.precisions.items())]
        ),
        "source": found.source,
        "mirror": found.mirror,
        "here": found.path or f"no; deblur weights pull {found.name} fetches it",
    }
    return ((name, value) for name, value in facts.items() if value)


def _pull(options: PullOptions) -> None:
    from deblur_cli.commands import weights as workflow

    with Screen(quiet=options.quiet) as screen:
        _report(workflow.pull(options, told=screen.fetching), screen, as_json=options.json)


def _verify(options: VerifyOptions) -> None:
    from deblur_cli.commands import weights as workflow

    with Screen(quiet=options.quiet) as screen:
        _report(workflow.verify(options), screen, as_json=options.json)


def _report(outcomes: Iterator[Any], screen: Screen, *, as_json: bool) -> None:
    """Tell each outcome, and exit by what they come to: the failure's code if nothing went well."""
    codes: Counter[int] = Counter()
    for each in outcomes:
        codes[each.exit_code] += 1
        if as_json:
            data({name.name: getattr(each, name.name) for name in fields(each) if name.name != "cause"})
        if os.environ.get("DEBLUR_DEBUG") and each.cause is not None:
            screen.say("".join(traceback.format_exception(each.cause)).rstrip())
        if each.status == "failed":
            screen.complain(str(each), each.hint or "")
        else:
            screen.say(str(each))
    failures = [code for code in codes if code]
    if failures:
        raise typer.Exit(_PARTLY if codes[0] else failures[0])


def _convert(options: ConvertOptions) -> None:
    from deblur_cli.commands import weights_convert as workflow

    with Screen(quiet=options.quiet) as screen:
        found = workflow.run(options, told=screen.fetching)
        screen.say(str(found))
        if options.json:
            label = {name.name: getattr(found.label, name.name) for name in fields(found.label)}
            data({"path": str(found.out), "parameters": found.parameters, "notice": found.notice, **label})


def _publish(options: PublishOptions) -> None:
    from deblur_cli.commands import weights_publish as workflow

    with Screen(quiet=options.quiet) as screen:
        found = workflow.run(options, told=screen.say)
        screen.say(str(found))
        if options.json:
            data({"url": found.url, "row": found.row, **asdict(found.entry)})
            return
        screen.say("the row for a list of weights:")
        for line in found.row.splitlines():
            screen.print(line)


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.1f} MB"
