"""Frozen value classes that cost next to nothing to define.

``dataclass`` writes and compiles source text for every class, a third of a millisecond each: for a program that
lives a tenth of a second and knows a hundred structures, the largest part of its start. ``record`` gives the same
classes (fields, defaults, ``replace``, equality, hash, repr, immutability) with methods written once, here. Making
an instance takes a little longer, so classes with very many instances stay plain dataclasses.
"""

from __future__ import annotations

import dataclasses
from typing import Any, TypeVar, dataclass_transform

C = TypeVar("C")
_MISSING = dataclasses.MISSING


def _init(self: Any, *args: Any, **values: Any) -> None:
    names, defaults, factories = self.__record__
    state = self.__dict__
    state.update(defaults)
    if args:
        if len(args) > len(names):
            raise TypeError(f"{type(self).__name__} takes {len(names)} positional values, not {len(args)}")
        if twice := values.keys() & names[: len(args)]:
            raise TypeError(f"{type(self).__name__} got {', '.join(twice)} twice")
        state.update(zip(names, args, strict=False))
    state.update(values)
    for name, factory in factories:
        if name not in state:
            state[name] = factory()
    fields = self.__dataclass_fields__
    if state.keys() != fields.keys():
        if missing := [name for name in fields if name not in state]:
            raise TypeError(f"{type(self).__name__} needs {', '.join(missing)}")
        raise TypeError(f"{type(self).__name__} has no {', '.join(name for name in state if name not in fields)}")


def _values(self: Any) -> tuple[Any, ...]:
    return tuple(self.__dict__[name] for name in self.__dataclass_fields__)


def _repr(self: Any) -> str:
    pairs = zip(self.__dataclass_fields__, _values(self), strict=True)
    return f"{type(self).__qualname__}({', '.join(f'{name}={value!r}' for name, value in pairs)})"


def _eq(self: Any, other: object) -> Any:
    return _values(self) == _values(other) if type(other) is type(self) else NotImplemented


def _hash(self: Any) -> int:
    return hash(_values(self))


def _refuse(self: Any, name: str, *value: Any) -> None:
    raise dataclasses.FrozenInstanceError(f"cannot change {name} of {type(self).__name__}")


@dataclass_transform(frozen_default=True, field_specifiers=(dataclasses.field,))
def record(cls: type[C]) -> type[C]:
    """Make a class with annotated fields a frozen value class, as ``dataclass(frozen=True)`` does."""
    made: Any = dataclasses.dataclass(init=False, repr=False, eq=False)(cls)
    fields = dataclasses.fields(made)
    made.__record__ = (
        [field.name for field in fields if not field.kw_only],
        {field.name: field.default for field in fields if field.default is not _MISSING},
        [(field.name, field.default_factory) for field in fields if field.default_factory is not _MISSING],
    )
    made.__init__, made.__repr__, made.__eq__, made.__hash__ = _init, _repr, _eq, _hash
    made.__setattr__, made.__delattr__ = _refuse, _refuse
    return made  # type: ignore[no-any-return]
