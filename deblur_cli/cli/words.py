"""A Typer command made from a dataclass of options: types and defaults stand there, the words for them here."""

import inspect
import re
from collections.abc import Callable, Mapping
from dataclasses import MISSING, Field, fields
from typing import Annotated, Any, TypeVar, get_origin

import typer

T = TypeVar("T")


def command(options: type[T], said: Mapping[str, Any], act: Callable[[T], None]) -> Callable[..., None]:
    """A function for Typer to register, which builds the checked options and hands them on.

    Args:
        options: a dataclass; every field has a word.
        said: ``typer.Option`` or ``typer.Argument`` by name of the field. A name that is no field is a flag that acts by its
            own callback, such as ``--version``.
        act: what the command does.
    """
    names = {each.name for each in fields(options)}  # pyright: ignore[reportArgumentType] - a dataclass, as said

    def speak(**values: Any) -> None:
        act(options(**{name: _frozen(value) for name, value in values.items() if name in names}))

    typed = {each.name: each for each in fields(options)}  # pyright: ignore[reportArgumentType]
    parameters = [_parameter(name, typed.get(name), info) for name, info in said.items()]
    speak.__signature__ = inspect.Signature(parameters)  # pyright: ignore[reportFunctionMemberAccess]
    speak.__annotations__ = {each.name: each.annotation for each in parameters}
    return speak


def option(panel: str, *names: str, help: str, **more: Any) -> Any:  # noqa: A002 - Typer's own word
    """One flag in a panel of the help."""
    return typer.Option(*names, help=help, rich_help_panel=panel, **more)


def tile_side(word: str) -> int | None:
    """What ``--tile`` says: a number of pixels, or None for auto."""
    if word == "auto":
        return None
    if not re.fullmatch(r"-?[0-9]+", word):
        raise typer.BadParameter("Say auto, a number of pixels, or 0 for the whole photo at once.")
    return int(word)


def _parameter(name: str, field: Field[Any] | None, info: Any) -> inspect.Parameter:
    kind: Any = bool if field is None else field.type
    default: Any = False if field is None else field.default
    if kind in {bool, bool | None} and info.metavar is None:
        info.metavar = ""  # else the help says of every flag that it is a <bool>
    if get_origin(kind) is tuple:
        kind = list[str]
    return inspect.Parameter(
        name,
        inspect.Parameter.KEYWORD_ONLY,
        default=inspect.Parameter.empty if default is MISSING else default,
        annotation=Annotated[kind, info],
    )


def _frozen(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
