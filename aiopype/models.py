"""Pydantic models as values: known by what they can do, so that pydantic is never imported here.

Who declares or emits a model has imported pydantic already; all others do without it.
"""

from __future__ import annotations

import inspect
from typing import Any

import msgspec

__all__ = ["as_plain", "from_plain", "is_model", "read", "why_unusable"]

#: How many of a model's faults an error's text tells.
_FAULTS = 3


def is_model(declared: Any) -> bool:
    """Say whether `declared` is the class of a pydantic model (of pydantic 2)."""
    return isinstance(declared, type) and hasattr(declared, "model_validate_json")


def why_unusable(model: Any) -> str:
    """Return why `model` cannot be read, or an empty text."""
    if "by_name" in inspect.signature(model.model_validate_json).parameters:
        return ""
    return "pydantic is older than 2.11"


def read(model: Any, value: bytes | msgspec.Raw) -> Any:
    """Return the model that the JSON `value` stands for, by pydantic's own rules.

    Both a field's alias and its name are taken: a model is written by its names unless its
    configuration says `serialize_by_alias`, and must be readable as it was written.

    Raises:
        msgspec.ValidationError: the value does not fit the model.
    """
    try:
        return model.model_validate_json(bytes(value), by_alias=True, by_name=True)
    except ValueError as error:  # the base of pydantic's ValidationError
        raise msgspec.ValidationError(f"{model.__name__}: {_faults(error)}") from error


def from_plain(declared: type[Any], data: Any) -> Any:
    """Return `data`, as msgspec decoded it, as an object of `declared`: its `dec_hook`.

    Raises:
        ValueError: the data does not fit the model; msgspec adds where.
    """
    if declared is object:  # declares as little as Any
        return data
    try:
        # By way of JSON: a strict model takes a date's text from JSON only.
        return read(declared, msgspec.json.encode(data))
    except msgspec.ValidationError as error:
        raise ValueError(str(error)) from error


def as_plain(value: Any) -> Any:
    """Return what msgspec can encode for a model: its `enc_hook`.

    Raises:
        TypeError: `value` is no model.
    """
    if hasattr(type(value), "model_dump"):
        return value.model_dump(mode="json")
    raise TypeError(f"Encoding objects of type {type(value).__qualname__} is unsupported")


def _faults(error: ValueError) -> str:
    errors = getattr(error, "errors", None)
    if errors is None:
        return str(error)
    found = errors(include_url=False, include_context=False, include_input=False)
    texts = [
        f"{fault['msg']} - at `{'.'.join(['$', *map(str, fault['loc'])])}`"
        for fault in found[:_FAULTS]
    ]
    if len(found) > _FAULTS:
        texts.append(f"and {len(found) - _FAULTS} more")
    return "; ".join(texts)
