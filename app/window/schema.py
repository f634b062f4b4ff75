"""Parameters as their JSON schema describes them: kinds, bounds, what a person typed, sweeps. Free of Qt and pydantic."""

from __future__ import annotations

import itertools
import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

Kind: TypeAlias = Literal["integer", "number", "boolean", "string", "choice", "array", "json"]
SEPARATOR = re.compile(r"[,;]\s*")


class Refused(ValueError):
    """What was typed is not allowed; the message says what is, beginning in lower case."""


@dataclass(frozen=True)
class Parameter:
    """One parameter of an experiment.

    Attributes:
        name: as on the command line.
        kind: what its value is.
        optional: whether "nothing" (null) is a value.
        schema: its JSON schema, references resolved.
        choices: the values of a choice.
    """

    name: str
    kind: Kind
    optional: bool
    schema: dict[str, Any]
    choices: tuple[Any, ...] = ()

    @property
    def default(self) -> Any:
        return self.schema.get("default")

    @property
    def required(self) -> bool:
        return "default" not in self.schema

    @property
    def description(self) -> str:
        return str(self.schema.get("description", ""))

    @property
    def nothing(self) -> str:
        """What an empty field means, as its description says behind "empty:"."""
        found = re.search(r"\bempty: ([^;,(]+)", self.description)
        return found[1].strip() if found else "not set"

    @property
    def may_be_empty(self) -> bool:
        """Whether a field with nothing in it is a choice, whose meaning is `nothing`."""
        return self.optional or (self.default in ("", []) and "empty: " in self.description)

    @property
    def unit(self) -> str:
        return str(self.schema.get("unit", ""))

    @property
    def widget(self) -> str:
        return str(self.schema.get("widget", ""))

    @property
    def advanced(self) -> bool:
        return bool(self.schema.get("advanced", False))

    @property
    def section(self) -> str:
        """The group of the form that it stands in; "" for none."""
        return str(self.schema.get("section", ""))

    @property
    def when(self) -> dict[str, list[Any]]:
        """The values of other parameters with which it matters: one of each list; empty where it always does."""
        return dict(self.schema.get("when", {}))

    @property
    def choices_help(self) -> dict[str, str]:
        """What each choice stands for, in words."""
        return dict(self.schema.get("choices_help", {}))

    @property
    def sweeps(self) -> bool:
        """Whether several values, separated by commas, make a sweep: numbers, and hook points, which have no comma."""
        return self.kind in ("integer", "number") or (self.kind == "string" and self.widget == "hook")

    def bounds(self) -> str:
        """What is allowed, in words: ``1 to 65,536``; "" where everything is."""
        low, high = self.schema.get("minimum"), self.schema.get("maximum")
        above, below = self.schema.get("exclusiveMinimum"), self.schema.get("exclusiveMaximum")
        if low is not None and high is not None:
            return f"{_written(low)} to {_written(high)}"
        parts = [
            f"{words} {_written(value)}"
            for words, value in (("at least", low), ("more than", above), ("at most", high), ("less than", below))
            if value is not None
        ]
        return " and ".join(parts)

    def read(self, text: str) -> Any:
        """The value a person typed. Raises `Refused`."""
        text = text.strip()
        if not text and self.optional:
            return None
        if self.kind in ("integer", "number"):
            return self._number(text)
        if self.kind in ("array", "json"):
            return self._structure(text)
        if len(text) < int(self.schema.get("minLength", 0)):
            raise Refused("needs a value")
        pattern = self.schema.get("pattern")
        if pattern and not re.search(pattern, text):
            raise Refused(f"is not one of the allowed forms: {self.description[:1].lower()}{self.description[1:]}")
        return text

    def read_all(self, text: str) -> list[Any]:
        """The values a person typed: one, or those of a sweep. Raises `Refused`."""
        if not self.sweeps:
            return [self.read(text)]
        parts = [part for part in SEPARATOR.split(text.strip()) if part]
        values = [self.read(part) for part in parts] or [self.read("")]
        return list(dict.fromkeys(values))

    def write(self, value: Any) -> str:
        """A value as it stands in the field; a list for what is one value is a sweep."""
        if value is None:
            return ""
        if self.sweeps and isinstance(value, list):
            return ", ".join(_plain(part) for part in value)
        if self.kind == "array" and isinstance(value, list) and all(isinstance(part, int | float) for part in value):
            return ", ".join(_plain(part) for part in value)
        return _plain(value)

    def _number(self, text: str) -> int | float:
        compact = re.sub(r"(?<=\d)[\s_\u202f](?=\d)", "", text)
        if not compact:
            raise Refused("needs a number")
        try:
            value = float(compact)
        except ValueError:
            raise Refused(f"“{text}” is not a number") from None
        if not math.isfinite(value):
            raise Refused("has to be a finite number")
        if self.kind == "integer":
            if value != int(value):
                raise Refused("has to be a whole number")
            # Through int where possible: a float would lose the last digits of a large seed.
            value = int(compact) if re.fullmatch(r"[+-]?\d+", compact) else int(value)
        low, high = self.schema.get("minimum"), self.schema.get("maximum")
        above, below = self.schema.get("exclusiveMinimum"), self.schema.get("exclusiveMaximum")
        if (
            (low is not None and value < low)
            or (high is not None and value > high)
            or (above is not None and value <= above)
            or (below is not None and value >= below)
        ):
            raise Refused(f"has to be {self.bounds()}")
        return value

    def _structure(self, text: str) -> Any:
        try:
            value = json.loads(text)
        except ValueError:
            if self.kind == "json":
                raise Refused("is not valid JSON") from None
            value = None
        if self.kind == "array" and not isinstance(value, list):
            item = {name: rule for name, rule in (self.schema.get("items") or {}).items() if name != "default"}
            element = parameter(self.name, item)
            value = [element.read(part) for part in SEPARATOR.split(text) if part]
        if self.kind == "array" and len(value) < int(self.schema.get("minItems", 0)):
            raise Refused(f"needs at least {self.schema['minItems']} values")
        return value


def parameters(schema: dict[str, Any]) -> list[Parameter]:
    """The parameters of an experiment's JSON schema, in the order in which they were declared."""
    definitions = schema.get("$defs", {})
    return [parameter(name, entry, definitions) for name, entry in schema.get("properties", {}).items()]


def parameter(name: str, entry: dict[str, Any], definitions: dict[str, Any] | None = None) -> Parameter:
    """One parameter; references and "or null" are resolved."""
    resolved = _resolve(entry, definitions or {})
    optional = False
    options = resolved.get("anyOf")
    if options is not None:
        rest = [_resolve(option, definitions or {}) for option in options if option.get("type") != "null"]
        optional = len(rest) < len(options)
        if len(rest) == 1:
            resolved = {**rest[0], **{key: value for key, value in resolved.items() if key != "anyOf"}}
    if "enum" in resolved or "const" in resolved:
        return Parameter(name, "choice", optional, resolved, tuple(resolved.get("enum") or [resolved["const"]]))
    kinds: dict[str, Kind] = {
        "integer": "integer",
        "number": "number",
        "boolean": "boolean",
        "string": "string",
        "array": "array",
    }
    return Parameter(name, kinds.get(str(resolved.get("type")), "json"), optional, resolved)


def combinations(values: dict[str, list[Any]]) -> list[dict[str, Any]]:
    """Every combination of the values that were typed: one parameter set per run."""
    return [dict(zip(values, choice, strict=True)) for choice in itertools.product(*values.values())]


def applies(parameter: Parameter, values: dict[str, Any]) -> bool:
    """Whether ``parameter`` matters beside these values of the others."""
    return all(values.get(name) in allowed for name, allowed in parameter.when.items())


def relevant(parameters: Sequence[Parameter], values: dict[str, list[Any]]) -> set[str]:
    """The names of those that matter in at least one of the runs that ``values`` stand for.

    Only the values that decide about others are looked at. A parameter that does not matter decides
    by its default; one that decides is declared before those it decides about.
    """
    deciding = {name for parameter in parameters for name in parameter.when}
    found = set()
    for combination in combinations({name: some for name, some in values.items() if name in deciding}):
        for parameter in parameters:
            if applies(parameter, combination):
                found.add(parameter.name)
            elif parameter.name in combination:
                combination[parameter.name] = parameter.default
    return found


def runs_of(parameters: Sequence[Parameter], values: dict[str, list[Any]]) -> list[dict[str, Any]]:
    """One set of values per run: every combination, without those that differ only where it does not matter.

    A parameter that does not matter in a run has its default there.
    """
    found: dict[str, dict[str, Any]] = {}
    for combination in combinations(values):
        for parameter in parameters:
            if not parameter.required and not applies(parameter, combination):
                combination[parameter.name] = parameter.default
        found.setdefault(json.dumps(combination, sort_keys=True), combination)
    return list(found.values())


def label_of(name: str) -> str:
    """The name in the form: as on the command line, with spaces ("prepend BOS")."""
    # d_model and its kin are one word of the field.
    return name if name.startswith("d_") else name.replace("_", " ").replace(" bos", " BOS")


def _resolve(entry: dict[str, Any], definitions: dict[str, Any]) -> dict[str, Any]:
    if "$ref" in entry:
        target = definitions.get(str(entry["$ref"]).rpartition("/")[2], {})
        return {**target, **{key: value for key, value in entry.items() if key != "$ref"}}
    if len(entry.get("allOf", ())) == 1:
        inner = _resolve(entry["allOf"][0], definitions)
        return {**inner, **{key: value for key, value in entry.items() if key != "allOf"}}
    return entry


def _plain(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, float):
        return f"{value:g}" if float(f"{value:g}") == value else repr(value)
    return str(value)


def _written(value: float) -> str:
    if isinstance(value, int) or float(value).is_integer():
        whole = int(value)
        power = len(str(whole)) - 1
        return f"10^{power}" if power > 6 and whole == 10**power else f"{whole:,}"
    return f"{value:g}"
