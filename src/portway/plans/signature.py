"""Reads the signature of a callable: its parameters and defaults, `Ask` and `Header` marks, the context, descriptions
from its docstring, its result; refuses what no client could call.
"""

import functools
import inspect
import re
import types
import typing
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from portway.exceptions import RegistrationError

EMPTY: Any = inspect.Parameter.empty  # Any: it stands where an annotation or a default would


class Ask(msgspec.Struct, frozen=True, eq=False):
    """Marks a parameter as asked of the client before the function runs: `Annotated[bool, Ask("Really?")]`.

    A text asks by a form of the parameter's type. For any other question pass the question, as in `Ask(list_roots())`.
    """

    question: Any  # a str or a Question, which stands in a higher layer


class Header(msgspec.Struct, frozen=True):
    """Marks an argument modern clients repeat in a header: `Annotated[str, Header("Region")]` (Mcp-Param-Region)."""

    name: str


class Parameter(msgspec.Struct, frozen=True):
    """One argument that a client can send. `factory`, if there is one, makes the default anew for every call."""

    name: str
    annotation: Any  # Any: a type expression has no common type
    default: object = EMPTY
    factory: Callable[[], object] | None = None
    description: str | None = None
    keyword_only: bool = False
    header: str | None = None

    @property
    def required(self) -> bool:
        """Whether a client must send it."""
        return self.default is EMPTY and self.factory is None

    def fallback(self) -> object:
        """Return the value of an argument that was not sent."""
        return self.factory() if self.factory is not None else self.default


class AskedParameter(msgspec.Struct, frozen=True):
    """One parameter marked with `Ask`; `annotation` includes the mark."""

    name: str
    annotation: Any  # Any: a type expression
    ask: Ask
    has_default: bool


class Signature(msgspec.Struct, frozen=True):
    """A callable as clients and the dispatcher see it. `context_index` is None for a context passed by keyword."""

    name: str
    description: str | None
    parameters: tuple[Parameter, ...]
    returns: Any  # Any: a type expression
    is_async: bool
    context: str | None = None
    context_index: int | None = None
    asked: tuple[AskedParameter, ...] = ()


def parse(fn: Callable[..., object], context_type: type) -> Signature:
    """Read `fn`; raises RegistrationError for what a client could not call by name."""
    inner = fn
    while isinstance(inner, functools.partial):
        inner = inner.func
    target = _target(inner)
    name = str(getattr(inner, "__name__", None) or type(inner).__name__)
    if inspect.isgeneratorfunction(target) or inspect.isasyncgenfunction(target):
        raise RegistrationError(f"{name} is a generator; return a list, or report progress through the context")
    # For a functools.wraps wrapper, inspect the wrapped function.
    is_async = inspect.iscoroutinefunction(target) or inspect.iscoroutinefunction(inspect.unwrap(target))
    raw = _signature(fn, name)
    hints = _hints(target, name)
    # Without its own docstring, an object's __call__ would inherit the one of `type`.
    text = inspect.getdoc(target) if target is fn or target.__doc__ else None
    description, documented = parse_docstring(text)
    if not inspect.isroutine(fn) and not isinstance(fn, functools.partial):
        description = (type(fn).__doc__ and inspect.getdoc(type(fn))) or description
    bound: dict[str, object] = fn.keywords if isinstance(fn, functools.partial) else {}
    parameters: list[Parameter] = []
    asked: list[AskedParameter] = []
    context: str | None = None
    context_index: int | None = None
    for parameter in raw.parameters.values():
        if parameter.name in bound:  # the author has set it
            continue
        _refuse(parameter, name, target)
        # Answers, and all parameters after them, are passed by keyword.
        keyword_only = bool(asked) or parameter.kind is inspect.Parameter.KEYWORD_ONLY
        annotation = hints.get(parameter.name, parameter.annotation)
        if _is_context(annotation, context_type):
            if context is not None:
                raise RegistrationError(f"{name}: {context} and {parameter.name} both ask for the context; keep one")
            context = parameter.name
            context_index = None if keyword_only else len(parameters)
            continue
        metadata: tuple[object, ...] = getattr(annotation, "__metadata__", ())
        ask = next((item for item in metadata if isinstance(item, Ask)), None)
        if ask is not None:
            asked.append(AskedParameter(parameter.name, annotation, ask, parameter.default is not EMPTY))
            continue
        parameters.append(_parameter(parameter, annotation, documented.get(parameter.name), keyword_only=keyword_only))
    return Signature(
        name=name,
        description=description,
        parameters=tuple(parameters),
        returns=_awaited(hints.get("return", raw.return_annotation)),
        is_async=is_async,
        context=context,
        context_index=context_index,
        asked=tuple(asked),
    )


def is_pydantic(value: object) -> bool:
    """Return whether a default or a piece of Annotated metadata is one only pydantic understands."""
    if type(value).__module__.partition(".")[0] in {"pydantic", "annotated_types"}:
        return True
    return hasattr(value, "__get_pydantic_core_schema__") or hasattr(value, "__get_pydantic_json_schema__")


def parse_docstring(text: str | None) -> tuple[str | None, dict[str, str]]:
    """Split a docstring into the description and the text of each parameter (Google's "Args:" or ":param x:")."""
    if not text:
        return None, {}
    described: dict[str, str] = {}
    section = re.search(r"(?m)^(?:Args|Arguments|Parameters):[ \t]*\n((?:[ \t]+.*(?:\n|\Z)|[ \t]*\n)+)", text)
    if section:
        text = text[: section.start()] + text[section.end() :]
        body = inspect.cleandoc("\n" + section[1])
        for entry in re.finditer(r"(?m)^\*{0,2}(\w+)[ \t]*(?:\([^)\n]*\))?:[ \t]*(.*(?:\n(?:[ \t]+.*|[ \t]*))*)", body):
            described[entry[1]] = " ".join(entry[2].split())
    fields = re.compile(r"(?m)^:param(?: [^:\n]*?)? (\w+):[ \t]*(.*(?:\n[ \t]+.*)*)\n?|^:(?:type|rtype)\b.*\n?")
    for entry in fields.finditer(text):
        if entry[1]:
            described[entry[1]] = " ".join(entry[2].split())
    return fields.sub("", text).strip() or None, {key: value for key, value in described.items() if value}


def _target(fn: Callable[..., object]) -> Callable[..., object]:
    """Return the function whose annotations and docstring speak for `fn`."""
    if isinstance(fn, classmethod):
        raise _without_object(fn.__name__)
    if isinstance(fn, type):
        raise RegistrationError(f"{fn.__name__} is a class; register a function or a method of an instance")
    if not callable(fn):
        raise RegistrationError(f"{fn!r} is not callable")
    # A method-wrapper or builtin has no annotations to read and is refused with its signature.
    return fn if inspect.isroutine(fn) else type(fn).__call__


def _signature(fn: Callable[..., object], name: str) -> inspect.Signature:
    try:
        return inspect.signature(fn)
    except (TypeError, ValueError):
        raise RegistrationError(f"{name} has no readable signature; wrap it in a function of your own") from None


def _hints(target: Callable[..., object], name: str) -> dict[str, Any]:
    try:
        return typing.get_type_hints(target, include_extras=True)
    except NameError as error:
        raise unresolved(name, error) from None
    except (SyntaxError, TypeError) as error:
        raise RegistrationError(f"{name}: an annotation cannot be read: {error}") from None


def unresolved(name: str, error: NameError) -> RegistrationError:
    """Return the error for an annotation that names what does not exist."""
    return RegistrationError(
        f"{name}: an annotation uses {error.name}, which does not exist when the program runs; import or define it at "
        "the top of the module, not under TYPE_CHECKING or inside a function"
    )


def _without_object(name: str) -> RegistrationError:
    return RegistrationError(f"{name} is a method without its object; register obj.{name} of an instance")


def _refuse(parameter: inspect.Parameter, name: str, target: Callable[..., object]) -> None:
    if parameter.kind in {inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD}:
        raise RegistrationError(f"{name}: {parameter} cannot be described to a client; name every parameter")
    if parameter.kind is inspect.Parameter.POSITIONAL_ONLY:
        raise RegistrationError(f"{name}: {parameter.name} is positional-only, and clients send names; drop the '/'")
    if parameter.name.startswith("__"):
        raise RegistrationError(f"{name}: {parameter.name} cannot name an argument; drop the underscores")
    if parameter.name in {"self", "cls"} and parameter.annotation is EMPTY and "." in target.__qualname__:
        raise _without_object(name)


def _is_context(annotation: object, context_type: type) -> bool:
    origin = typing.get_origin(annotation)
    if origin is typing.Annotated:
        return _is_context(typing.get_args(annotation)[0], context_type)
    if origin in {typing.Union, types.UnionType}:
        return any(_is_context(part, context_type) for part in typing.get_args(annotation))
    candidate = origin or annotation
    return isinstance(candidate, type) and issubclass(candidate, context_type)


def _parameter(raw: inspect.Parameter, annotation: object, documented: str | None, *, keyword_only: bool) -> Parameter:
    if annotation is EMPTY:
        annotation = Any
    metadata: tuple[object, ...] = getattr(annotation, "__metadata__", ())
    default: object = raw.default
    if default is not EMPTY and is_pydantic(default) and hasattr(default, "is_required"):
        annotation, metadata, default = typing.Annotated[annotation, default], (*metadata, default), EMPTY
    factory: Callable[[], object] | None = None
    if default is EMPTY:
        for item in metadata:
            if is_pydantic(item) and hasattr(item, "is_required") and not item.is_required():
                factory = functools.partial(item.get_default, call_default_factory=True)  # type: ignore[attr-defined]
                if getattr(item, "default", EMPTY) is None:
                    annotation = _or_null(annotation)
    elif default is None:
        annotation = _or_null(annotation)
    elif isinstance(default, list | dict | set | bytearray) or getattr(type(default), "__hash__", 1) is None:
        import copy  # only a mutable default needs it

        factory = functools.partial(copy.deepcopy, default)
    return Parameter(
        name=raw.name,
        annotation=annotation,
        default=default,
        factory=factory,
        description=next(filter(None, map(_text, metadata)), documented),
        keyword_only=keyword_only,
        header=next((item.name for item in metadata if isinstance(item, Header)), None),
    )


def _awaited(annotation: Any) -> Any:  # noqa: ANN401 - a type expression
    """Return the T of a function that is annotated to return an awaitable of T."""
    origin, parts = typing.get_origin(annotation), typing.get_args(annotation)
    if isinstance(origin, type) and issubclass(origin, Awaitable) and parts:
        return parts[-1]
    return annotation


def _text(metadata: object) -> str | None:
    """Return the description that a piece of Annotated metadata gives: a string, or one with a `description`."""
    text = metadata if isinstance(metadata, str) else getattr(metadata, "description", None)
    return text if isinstance(text, str) else None


def _or_null(annotation: Any) -> Any:  # noqa: ANN401 - a type expression
    """Allow null: a client may send the default that the schema shows."""
    origin, parts = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated and any(map(is_pydantic, annotation.__metadata__)):
        return typing.Annotated[(_or_null(parts[0]), *annotation.__metadata__)]  # a Field's alias counts only outermost
    plain = parts[0] if origin is typing.Annotated else annotation
    admits = (Any, object, None, type(None))
    if plain in admits or (typing.get_origin(plain) is typing.Literal and None in typing.get_args(plain)):
        return annotation
    return typing.Optional[annotation]  # noqa: UP045 - a string has no |
