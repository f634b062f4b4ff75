"""The experiment ``export-dictionary``: a dictionary of the session, written for another program."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from engine.runs.declaration import experiment
from engine.runs.parameters import Parameters

if TYPE_CHECKING:
    from engine.runs.run import Run


class ExportDictionaryParameters(Parameters):
    """Which dictionary, for whom, and where."""

    dictionary: Annotated[
        str,
        Field(
            min_length=1,
            description="Dictionary of this session: its id, or that of the run that trained it; demo is the one that "
            "ships",
            json_schema_extra={"widget": "session-dictionary"},
        ),
    ] = "demo"
    folder: Annotated[
        str,
        Field(
            description="New or empty folder to write it into; empty makes one here, named after dictionary and format",
            json_schema_extra={"widget": "new-folder"},
        ),
    ] = ""
    format: Annotated[
        Literal["saelens", "dictionary_learning", "sparsify"],
        Field(description="Program whose files are written"),
    ] = "saelens"


@experiment(
    "export-dictionary",
    title="Export a dictionary",
    area="Dictionaries",
    cites="Bloom et al. 2024 (SAELens); Marks et al. 2024 (dictionary_learning); EleutherAI 2024 (sparsify)",
)
def export_dictionary(parameters: ExportDictionaryParameters, run: Run) -> None:
    """Writes a dictionary of the session into a folder that another program reads.

    SAELens, dictionary_learning and sparsify read it with latents and reconstructions equal to those here. The
    folder appears whole or not at all, and a folder with something in it is left as it is.

    What a program cannot say is refused in a sentence: sparsify has only TopK, dictionary_learning no
    transcoders, SAELens no TopK transcoders. BatchTopK becomes JumpReLU with one threshold for SAELens, as
    SAELens itself does. Whether b_dec is taken from the input is folded into the encoder's bias where the
    program's reader does it otherwise.
    """
    from engine.dictionaries.errors import DictionaryError
    from engine.dictionaries.form import read
    from engine.dictionaries.formats import open_dictionary, write
    from engine.dictionaries.references import DEMO
    from engine.session.finding import find_thing

    folder = Path(parameters.folder or f"{parameters.dictionary}-{parameters.format}").expanduser().absolute()
    if parameters.dictionary == DEMO:
        [found] = open_dictionary(DEMO)
        dictionary = found.dictionary
    elif run.work is not None:
        dictionary = read(*find_thing(run.work, "dictionaries", parameters.dictionary))
    else:
        raise DictionaryError(
            f"There is no session to take {parameters.dictionary} from; run this in a session, or name the dictionary demo."
        )
    run.stage(f"Writing {folder.name}")
    write(dictionary, folder, parameters.format)
    run.fact("folder", str(folder))
    run.say(f"{parameters.dictionary} was written to {folder} for {parameters.format}.")
