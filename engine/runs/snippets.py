"""A run as something to paste: the command for a terminal, the line for a script. Free of torch and Qt."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
from collections.abc import Mapping
from typing import Any


def as_command(
    experiment: str, parameters: Mapping[str, Any], defaults: Mapping[str, Any], *, session: str = ""
) -> str:
    """``superscope run EXPERIMENT --set name=value …``, with the parameters that differ from ``defaults``.

    Quoted for a POSIX shell, on Windows for its own. A list for a scalar parameter is a sweep.
    """
    words = ["superscope", "run", experiment]
    for name, value in given(parameters, defaults).items():
        words += ["--set", f"{name}={_setting(value)}"]
    if session:
        words += ["--session", session]
    return subprocess.list2cmdline(words) if os.name == "nt" else shlex.join(words)


def as_python(experiment: str, parameters: Mapping[str, Any], defaults: Mapping[str, Any], *, session: str = "") -> str:
    """A script that makes the same run (or, for a list on a scalar parameter, the same sweep)."""
    differing = given(parameters, defaults)
    goes_over = [
        name for name, value in differing.items() if isinstance(value, list) and _is_scalar(defaults.get(name))
    ]
    verb, result = ("sweep", "results") if goes_over else ("run", "result")
    words = [repr(experiment)]
    if session:
        words.append(f"session={session!r}")
    words += [f"{name}={value!r}" for name, value in differing.items()]
    call = f"{verb}({', '.join(words)})"
    if len(call) > 100:
        call = f"{verb}(\n" + "".join(f"    {word},\n" for word in words) + ")"
    return f"from engine import {verb}\n\n{result} = {call}\n"


def given(parameters: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters that have to be written down: those that differ from their default, or have none."""
    return {name: value for name, value in parameters.items() if name not in defaults or defaults[name] != value}


def _is_scalar(default: Any) -> bool:
    return default is not None and not isinstance(default, (list, tuple, dict))


def _setting(value: Any) -> str:
    """A value as the command line reads it back: text as it is, unless it would be read as JSON."""
    if not isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    try:
        value.encode()
        json.loads(value)
    except RecursionError:
        return value
    except UnicodeEncodeError:  # half of a surrogate pair: no terminal takes it as it is
        return json.dumps(value)
    except ValueError:
        return value
    return json.dumps(value, ensure_ascii=False)
