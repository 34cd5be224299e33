"""Configs are frozen dataclasses; files and `key=value` only fill them. An unknown key names the nearest one."""

import dataclasses
import functools
import types
import typing
from collections.abc import Mapping
from typing import Any, TypeVar

from eyespot.errors import EyespotError, nearest

# Not typing.Self: the runtime check of the tests cannot resolve it on a method.
AnyConfig = TypeVar("AnyConfig", bound="Config")


class Config:
    """Base of every frozen config dataclass: strict reading from plain data and writing back."""

    @classmethod
    def from_dict(cls: type[AnyConfig], data: Mapping[str, Any], where: str = "") -> AnyConfig:
        """Build from plain data (JSON, YAML).

        Raises:
            EyespotError: ``config-unknown-key`` naming the nearest key; ``config-value`` for a value of a wrong type.
        """
        _expect(isinstance(data, Mapping), data, f"a mapping ({cls.__name__})", where or cls.__name__)
        known, hints = _fields(cls)
        values = {}
        for key, value in data.items():
            at = f"{where}.{key}" if where else key
            if key not in known:
                raise EyespotError(
                    "config-unknown-key", f"unknown key {at!r}{nearest(key, known)}", where=where or cls.__name__
                )
            values[key] = convert(value, hints[key], at)
        missing = [
            n
            for n, f in known.items()
            if n not in values and f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
        ]
        if missing:
            raise EyespotError("config-value", f"missing {', '.join(missing)}", where=where or cls.__name__)
        return cls(**values)

    def to_dict(self) -> dict[str, Any]:
        """Plain data: nested configs become dicts, tuples become lists."""
        return {f.name: _plain(getattr(self, f.name)) for f in dataclasses.fields(self)}  # type: ignore[arg-type]

    def replace(self: AnyConfig, **changes: Any) -> AnyConfig:
        """A copy with some fields changed."""
        return dataclasses.replace(self, **changes)  # type: ignore[type-var]


@functools.cache
def _fields(cls: type) -> tuple[dict[str, dataclasses.Field], dict[str, Any]]:
    """Fields of a config and their types, by name."""
    return {f.name: f for f in dataclasses.fields(cls)}, typing.get_type_hints(cls)


def _plain(value: Any) -> Any:
    if isinstance(value, Config):
        return value.to_dict()
    if isinstance(value, Mapping):
        return {k: _plain(v) for k, v in value.items()}
    if isinstance(value, (tuple, list)):
        return [_plain(v) for v in value]
    return value


def convert(value: Any, hint: Any, where: str) -> Any:
    """`value` as the type `hint` says, or a clear error. Strings are read as that type: ``"1e-5"`` is a float."""
    origin = typing.get_origin(hint)
    if origin in (typing.Union, types.UnionType):
        return _convert_union(value, typing.get_args(hint), where)
    if origin is typing.Literal:
        return _expect(value in typing.get_args(hint), value, " | ".join(map(str, typing.get_args(hint))), where, value)
    if origin is tuple:
        return _convert_tuple(value, typing.get_args(hint), where)
    if origin is list:
        _expect(isinstance(value, (list, tuple)), value, "a list", where)
        return [convert(v, typing.get_args(hint)[0], f"{where}[{i}]") for i, v in enumerate(value)]
    if origin in (dict, Mapping) or hint is dict or origin is getattr(typing, "Mapping", None):
        return dict(_expect(isinstance(value, Mapping), value, "a mapping", where, value))
    if isinstance(hint, type) and issubclass(hint, Config):
        if isinstance(value, hint):
            return value
        _expect(isinstance(value, Mapping), value, f"a mapping ({hint.__name__})", where)
        return hint.from_dict(value, where)
    return _convert_scalar(value, hint, where)


def _convert_union(value: Any, options: tuple, where: str) -> Any:
    if value is None or (isinstance(value, str) and value.lower() in ("none", "null") and str not in options):
        if type(None) in options:
            return None
        raise EyespotError("config-value", "a value is needed, none came", where=where)
    problems = []
    for option in (o for o in options if o is not type(None)):
        try:
            return convert(value, option, where)
        except EyespotError as error:
            problems.append(error)
    raise problems[0]


def _convert_tuple(value: Any, args: tuple, where: str) -> tuple:
    if isinstance(value, str):
        value = [v for v in value.split(",") if v]
    if not isinstance(value, (list, tuple)):
        value = [value]
    if len(args) == 2 and args[1] is Ellipsis:
        return tuple(convert(v, args[0], f"{where}[{i}]") for i, v in enumerate(value))
    _expect(len(value) == len(args), value, f"{len(args)} values", where)
    return tuple(convert(v, a, f"{where}[{i}]") for i, (v, a) in enumerate(zip(value, args, strict=True)))


def _convert_scalar(value: Any, hint: Any, where: str) -> Any:
    if hint is bool:
        if isinstance(value, str) and value.lower() in ("true", "false"):
            return value.lower() == "true"
        return _expect(isinstance(value, bool), value, "true or false", where, value)
    if hint in (int, float):
        if isinstance(value, bool):
            _expect(False, value, "a number", where)
        try:
            number = hint(value) if not (hint is int and isinstance(value, float) and not value.is_integer()) else None
        except (TypeError, ValueError):
            number = None
        return _expect(number is not None, value, "an integer" if hint is int else "a number", where, number)
    if hint is str:
        return _expect(isinstance(value, str), value, "text", where, value)
    return value


def _expect(ok: bool, value: Any, expected: str, where: str, result: Any = None) -> Any:
    if not ok:
        shown = repr(value) if len(repr(value)) <= 60 else repr(value)[:57] + "…"
        raise EyespotError("config-value", f"expected {expected}, got {shown}", where=where)
    return result
