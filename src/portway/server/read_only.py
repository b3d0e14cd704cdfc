"""JSON data that cannot be changed: what a client sent, where a change would have no effect."""

from __future__ import annotations

from typing import Any, Never


def read_only(value: Any) -> Any:  # noqa: ANN401 - JSON
    """Return JSON data whose objects and arrays, at any depth, refuse a change with TypeError."""
    if isinstance(value, dict):
        return _Object({key: read_only(item) for key, item in value.items()})
    return _Array(map(read_only, value)) if isinstance(value, list) else value


def _refuse(*_: object, **__: object) -> Never:
    raise TypeError("What the client sent cannot be changed; change a copy, as in {**ctx.arguments}.")


class _Object(dict[str, Any]):
    __setitem__ = __delitem__ = __ior__ = update = setdefault = pop = popitem = clear = _refuse

    def __reduce__(self) -> tuple[Any, ...]:  # what is copied deep, or pickled, is plain
        return dict, (dict(self),)


class _Array(list[Any]):
    __setitem__ = __delitem__ = __iadd__ = __imul__ = _refuse
    append = extend = insert = pop = remove = clear = sort = reverse = _refuse

    def __reduce__(self) -> tuple[Any, ...]:
        return list, (list(self),)
