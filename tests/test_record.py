"""``record`` makes what ``dataclass(frozen=True)`` makes: each property is checked on both."""

from __future__ import annotations

import dataclasses
import pickle
from typing import Any

import pytest

from mbtool.record import record


@record
class Quick:
    """As cheap as can be."""

    a: int
    b: int = 2
    c: tuple[int, ...] = dataclasses.field(default_factory=tuple)


@dataclasses.dataclass(frozen=True)
class Plain:
    """The standard library's."""

    a: int
    b: int = 2
    c: tuple[int, ...] = dataclasses.field(default_factory=tuple)


@pytest.fixture(params=[Quick, Plain])
def cls(request) -> Any:
    return request.param


def test_values_defaults_and_names(cls):
    value = cls(1, c=(3,))
    assert (value.a, value.b, value.c) == (1, 2, (3,))
    assert [field.name for field in dataclasses.fields(value)] == ["a", "b", "c"]
    assert repr(value) == f"{cls.__name__}(a=1, b=2, c=(3,))"


def test_equality_and_hash_go_by_value_and_class(cls):
    assert cls(1) == cls(1, 2)
    assert hash(cls(1)) == hash(cls(1, 2))
    assert cls(1) != cls(2)
    assert Quick(1) != Plain(1)  # type: ignore[comparison-overlap]


def test_frozen(cls):
    value = cls(1)
    with pytest.raises(dataclasses.FrozenInstanceError):
        value.a = 2
    with pytest.raises(dataclasses.FrozenInstanceError):
        del value.a


def test_replace_and_pickle(cls):
    value = dataclasses.replace(cls(1), b=5)
    assert (value.a, value.b) == (1, 5)
    assert pickle.loads(pickle.dumps(value)) == value


@pytest.mark.parametrize(
    ("arguments", "values"), [((), {}), ((1, 2, (), 4), {}), ((1,), {"a": 1}), ((1,), {"d": 1})]
)
def test_wrong_arguments_are_type_errors(cls, arguments, values):
    with pytest.raises(TypeError):
        cls(*arguments, **values)
