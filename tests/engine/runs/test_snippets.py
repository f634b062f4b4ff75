"""What is copied from a run can be pasted: it is executed and parsed back here."""

from __future__ import annotations

import shlex
import subprocess
import sys
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import engine
from engine.cli.arguments import parse
from engine.runs.parameters import HookName, Parameters, Prompt, check, parse_setting, sweep
from engine.runs.snippets import as_command, as_python


class Odd(Parameters):
    prompt: Prompt = "The capital of France is"
    hook: HookName | None = None
    layers: list[int] = []  # noqa: RUF012  pydantic copies defaults
    lr: float = 0.001
    k: int = 3
    centre: bool = True


DEFAULTS = Odd().model_dump(mode="json")
texts = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))
parameters = st.fixed_dictionaries(
    {
        "prompt": texts,
        "hook": st.none() | texts.filter(bool),
        "layers": st.lists(st.integers()),
        "lr": st.floats(allow_nan=False, allow_infinity=False),
        "k": st.integers(),
        "centre": st.booleans(),
    }
)


def values_of(command: str) -> dict[str, Any]:
    words = shlex.split(command)
    assert words[:1] == ["superscope"]
    given = parse(words[1:])
    return dict(parse_setting(text, Odd) for text in given.settings)


@given(parameters)
@example({**DEFAULTS, "prompt": 'it\'s "so" $HOME `ls` \\ \n 5 > 3; rm -rf *'})
@example({**DEFAULTS, "prompt": "[1, 2]"})
@example({**DEFAULTS, "prompt": '"quoted"'})
@example({**DEFAULTS, "prompt": "null"})
@example({**DEFAULTS, "hook": "null"})
@example({**DEFAULTS, "hook": "12"})
@example({**DEFAULTS, "prompt": "--set"})
def test_a_copied_command_makes_the_same_run(values: dict[str, Any]) -> None:
    command = as_command("odd", values, DEFAULTS)
    assert check(Odd, values_of(command)) == check(Odd, values)


@given(parameters)
def test_copied_python_makes_the_same_run(values: dict[str, Any]) -> None:
    calls: list[tuple[Any, ...]] = []
    script = as_python("odd", values, DEFAULTS)
    patch = pytest.MonkeyPatch()
    patch.setattr(engine, "run", lambda *words, **named: calls.append((words, named)), raising=False)
    try:
        exec(compile(script, "copied", "exec"), {})
    finally:
        patch.undo()
    ((words, named),) = calls
    assert words == ("odd",)
    assert check(Odd, named) == check(Odd, values)


def test_only_what_differs_from_the_defaults_is_written() -> None:
    assert as_command("odd", DEFAULTS, DEFAULTS) == "superscope run odd"
    assert as_python("odd", DEFAULTS, DEFAULTS) == "from engine import run\n\nresult = run('odd')\n"
    assert as_command("odd", {**DEFAULTS, "k": 4}, DEFAULTS) == "superscope run odd --set k=4"


def test_a_session_is_part_of_the_copy() -> None:
    command = as_command("odd", DEFAULTS, DEFAULTS, session="my file.superscope")
    assert parse(shlex.split(command)[1:]).session == "my file.superscope"
    assert "session='my file.superscope'" in as_python("odd", DEFAULTS, DEFAULTS, session="my file.superscope")


def test_a_sweep_is_copied_as_a_sweep() -> None:
    values = {**DEFAULTS, "k": [1, 2]}
    expected = sweep(Odd, values)
    assert sweep(Odd, values_of(as_command("odd", values, DEFAULTS))) == expected
    assert as_python("odd", values, DEFAULTS).startswith("from engine import sweep\n\nresults = sweep('odd', k=[1, 2])")


@pytest.mark.skipif(sys.platform == "win32", reason="a POSIX shell")
def test_a_shell_reads_the_copied_command_as_it_was_meant() -> None:
    prompt = 'it\'s $HOME `x` "y" \\ *\n!'
    command = as_command("odd", {**DEFAULTS, "prompt": prompt}, DEFAULTS)
    script = f'superscope() {{ printf "%s\\0" "$@"; }}; {command}'
    done = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split("\0")[:-1] == ["run", "odd", "--set", f"prompt={prompt}"]
