"""A frozen dataclass as the JSON of a label, and back."""

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, cast, get_args, get_origin, get_type_hints

_Config = TypeVar("_Config")


def to_mapping(config: object) -> dict[str, Any]:
    """The fields of the dataclass ``config`` as what JSON knows: tuples become lists, nested dataclasses mappings."""
    return {field.name: _plain(getattr(config, field.name)) for field in fields(cast("Any", config))}


def from_mapping(kind: type[_Config], mapping: Mapping[str, Any]) -> _Config:
    """The dataclass ``kind`` that :func:`to_mapping` gave ``mapping`` for; fields that are missing keep their default.

    Raises:
        ValueError: A key is unknown, or a value of another type than its field, or one that ``kind`` refuses.
    """
    hints = get_type_hints(kind)
    if unknown := sorted(set(mapping) - set(hints)):
        raise ValueError(f"{kind.__name__} has no {', '.join(unknown)}; it has {', '.join(hints)}.")
    return kind(**{name: _typed(hints[name], value, name) for name, value in mapping.items()})


def _plain(value: Any) -> Any:
    """``value`` of a field as JSON."""
    if isinstance(value, tuple):
        return [_plain(item) for item in cast("tuple[Any, ...]", value)]
    if is_dataclass(value):
        return to_mapping(value)
    return value


def _typed(hint: Any, value: Any, name: str) -> Any:
    """``value`` of JSON as the type that ``hint`` says."""
    origin, args = get_origin(hint), get_args(hint)
    if origin in {Union, UnionType}:
        kinds = [kind for kind in args if kind is not NoneType]
        return None if value is None and len(kinds) < len(args) else _typed(kinds[0], value, name)
    if origin is tuple and isinstance(value, list | tuple) and len(cast("list[Any]", value)) == len(args):
        return tuple(_typed(kind, item, name) for kind, item in zip(args, cast("list[Any]", value), strict=True))
    if origin is Literal and isinstance(value, str) and value in args:
        return value
    if is_dataclass(hint) and isinstance(value, Mapping):
        return from_mapping(cast("type[Any]", hint), cast("Mapping[str, Any]", value))
    # True is an int to Python, and not what a label means by a number.
    if hint in {int, float, str, bool} and (type(value) is hint or (hint is float and type(value) is int)):
        return value
    expected = " or ".join(map(repr, args)) if origin is Literal else getattr(hint, "__name__", str(hint))
    raise ValueError(f"{name} is {value!r}; it is to be {expected if origin is not tuple else str(hint)}.")
