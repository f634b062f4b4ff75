"""Parameters of an experiment in words, read from the JSON schema that the catalogue carries.

Torch-free and pydantic-free: the window, the command line and the help pages use the same words.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

KINDS = {
    "integer": "whole number",
    "number": "number",
    "string": "text",
    "boolean": "true or false",
    "null": "nothing",
    "object": "object",
    "array": "list",
}


@dataclass(frozen=True)
class ParameterWords:
    """One parameter as a person reads it. ``default`` is JSON, "" where a value has to be given."""

    name: str
    kind: str
    bounds: str
    default: str
    unit: str
    help: str
    advanced: bool


def parameters(description: Mapping[str, Any]) -> list[ParameterWords]:
    """The parameters of ``Experiment.describe()``, in the order of their declaration."""
    schema = description["parameters"]
    found = []
    for name, entry in schema.get("properties", {}).items():
        whole = _resolve(entry, schema)
        found.append(
            ParameterWords(
                name=name,
                kind=_kind(whole, schema),
                bounds=bounds(whole, schema),
                default=json.dumps(whole["default"], ensure_ascii=False) if "default" in whole else "",
                unit=str(_of_any(whole, schema, "unit") or ""),
                help=str(_of_any(whole, schema, "description") or ""),
                advanced=bool(_of_any(whole, schema, "advanced")),
            )
        )
    return found


def defaults(description: Mapping[str, Any]) -> dict[str, Any]:
    """The default values of the parameters that have one."""
    properties = description["parameters"].get("properties", {})
    return {name: entry["default"] for name, entry in properties.items() if "default" in entry}


def bounds(entry: Mapping[str, Any], schema: Mapping[str, Any]) -> str:
    """The allowed values in words: ``1 … 65536``, ``> 0, ≤ 10``, ``float32, bfloat16 or float16``."""
    if "enum" in entry:
        return _either([str(value) for value in entry["enum"]])
    if "const" in entry:
        return str(entry["const"])
    if "anyOf" in entry:
        parts = [bounds(_resolve(part, schema), schema) for part in entry["anyOf"] if part.get("type") != "null"]
        return _either([part for part in parts if part])
    least, most = entry.get("minimum"), entry.get("maximum")
    if least is not None and most is not None:
        return f"{_number(least)} … {_number(most)}"
    found = []
    for key, sign in (("minimum", "≥"), ("exclusiveMinimum", ">"), ("exclusiveMaximum", "<"), ("maximum", "≤")):
        if key in entry:
            found.append(f"{sign} {_number(entry[key])}")
    items = (entry.get("minItems"), entry.get("maxItems"))
    if items != (None, None):
        low, high = items
        found.append(
            f"{low} items" if low == high else f"{low or 0} to {'any number of' if high is None else high} items"
        )
    if isinstance(entry.get("items"), Mapping):
        inner = bounds(_resolve(entry["items"], schema), schema)
        found += [f"each {inner}"] if inner else []
    return ", ".join(found)


def _kind(entry: Mapping[str, Any], schema: Mapping[str, Any]) -> str:
    if "enum" in entry or "const" in entry:
        return "choice"
    if "anyOf" in entry:
        return _either([_kind(_resolve(part, schema), schema) for part in entry["anyOf"]])
    return KINDS.get(str(entry.get("type", "")), "value")


def _resolve(entry: Mapping[str, Any], schema: Mapping[str, Any]) -> Mapping[str, Any]:
    reference = entry.get("$ref")
    if not isinstance(reference, str):
        return entry
    target = schema.get("$defs", {}).get(reference.rpartition("/")[2], {})
    return {**target, **{key: value for key, value in entry.items() if key != "$ref"}}


def _of_any(entry: Mapping[str, Any], schema: Mapping[str, Any], key: str) -> Any:
    """``key`` of the parameter, or of one of its alternatives (an optional hook says what it is inside)."""
    if key in entry:
        return entry[key]
    for part in entry.get("anyOf", ()):
        if (found := _resolve(part, schema).get(key)) is not None:
            return found
    return None


def _either(words: list[str]) -> str:
    distinct = list(dict.fromkeys(words))
    return " or ".join([", ".join(distinct[:-1]), distinct[-1]] if len(distinct) > 1 else distinct)


def _number(value: float) -> str:
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e6:
        return str(int(value))
    return f"{value:g}" if isinstance(value, float) or abs(value) >= 10**9 else str(value)
