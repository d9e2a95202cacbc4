"""What pydantic found wrong, in words that a person can act on."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError

from agent.config.scalars import masked


def lines(error: ValidationError, model: type[BaseModel], data: Mapping[str, Any]) -> list[str]:
    """One line a fault: the key as it is written in the file, what was found, and what would be right."""
    return [_line(fault, model, data) for fault in error.errors()]


def _line(fault: Any, model: type[BaseModel], data: Mapping[str, Any]) -> str:
    loc = _written(fault["loc"], data)
    key = ".".join(map(str, loc))
    kind, found, context = fault["type"], fault["input"], fault.get("ctx", {})
    match kind:
        case "extra_forbidden":
            known = _known_keys(model, loc[:-1], data)
            near = difflib.get_close_matches(str(loc[-1]), known, n=1, cutoff=0.5)
            hint = f"did you mean {near[0]}?" if near else f"known here: {', '.join(known)}"
            return f"{key}: unknown key; {hint}"
        case "missing":
            return f"{key}: is missing, and has no default"
        case "union_tag_not_found":
            return f"{key}.kind: is missing; one of {_tags(model)}"
        case "union_tag_invalid":
            return f"{key}.kind: found {context['tag']!r}; one of {context['expected_tags']}"
        case "literal_error":
            return f"{key}: found {_shown(found)}; must be {context['expected']}"
        case "value_error":
            return f"{key or 'file'}: {context['error']}"
        case _:
            return f"{key}: {fault['msg'][0].lower()}{fault['msg'][1:]}; found {_shown(found)}"


def _shown(found: object) -> str:
    """What was found, without what may be a secret: a table in the wrong place may hold the password."""
    match found:
        case str():
            return repr(masked(found))
        case Mapping():
            return "a table"
        case list() | tuple():
            return "a list"
        case _:
            return repr(found)


def _written(loc: tuple[int | str, ...], data: Any) -> tuple[int | str, ...]:
    """The location without the names of union members, which pydantic puts between the keys."""
    keys: list[int | str] = []
    for i, part in enumerate(loc):
        if isinstance(data, Mapping):
            if part in data:
                keys.append(part)
                data = data[str(part)]
            elif i == len(loc) - 1 and not _is_member(str(part)):
                keys.append(part)
        elif isinstance(data, list) and isinstance(part, int):
            keys.append(part)
            data = data[part]
    return tuple(keys)


def _is_member(part: str) -> bool:
    return part.startswith(("literal[", "tuple[")) or "[" in part


def _known_keys(model: type[BaseModel], loc: tuple[int | str, ...], data: Any) -> list[str]:
    """The keys that the table at ``loc`` may have."""
    annotation: Any = model
    for part in loc:
        annotation = _step(annotation, str(part))
        data = data[part]
    models = list(_models(annotation))
    fitting = [m for m in models if _fits(m, data)] or models
    return sorted({field.alias or name for m in fitting for name, field in m.model_fields.items()})


def _step(annotation: Any, key: str) -> Any:
    """The type of what stands under ``key`` in a value of type ``annotation``."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation.model_fields[key].annotation if key in annotation.model_fields else None
    tables = [annotation, *get_args(annotation)]  # a dict, or one that may be left out
    return next((get_args(table)[1] for table in tables if get_origin(table) is dict), None)


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    """The tables that a type admits."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    elif get_origin(annotation) in (Union, UnionType, Annotated):
        for argument in get_args(annotation):
            yield from _models(argument)


def _fits(model: type[BaseModel], data: Any) -> bool:
    """Whether a table that names its kind is of this one."""
    kind = model.model_fields.get("kind")
    return kind is None or (isinstance(data, Mapping) and data.get("kind") in get_args(kind.annotation))


def _tags(model: type[BaseModel]) -> str:
    kinds = (m.model_fields["kind"] for m in _models(_step(_step(model, "sensors"), "")))
    return ", ".join(tag for kind in kinds for tag in get_args(kind.annotation))
