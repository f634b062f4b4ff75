"""Models from the Hugging Face hub: safetensors only, no code, over the hub's own verified client, only when asked."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.models import memory
from engine.models.convert import require_disk
from engine.models.errors import ModelError
from engine.models.facts import of_config
from engine.models.folder import inspect
from engine.models.references import hub_cache, hub_folder

if TYPE_CHECKING:
    from engine.runs.run import Run

# What a model is made of besides its weights: config, tokenizer, chat template. Never code, never pickles.
PLAIN = (".json", ".txt", ".model", ".jinja", ".tiktoken")


def downloaded(name: str, run: Run | None = None, *, dtype: str = "float32") -> Path:
    """The folder with the hub's model ``org/name``, which is fetched when it is not here yet.

    Raises:
        ModelError: there is no network, no such model, no access to it, it has no safetensors, or it
            would not fit into memory in ``dtype``.
        DiskError: there is no room for it.
    """
    here = _snapshot(name)
    if here is not None:
        return here
    if run is not None:
        run.stage(f"Asking the hub for {name}")
    info = ask(name)
    files = _wanted(name, info)
    total = sum(size for _, size in files)
    memory.require(memory.needed(_parameters(info, files), dtype), "cpu", what=f"Opening {name}")
    require_disk(hub_folder(name), total + 20_000_000)
    if run is not None:
        run.stage(f"Fetching {name}")
    done = 0
    for file, size in files:
        if run is not None:
            run.point()
        fetch(name, file, info.sha, run, done, total)
        done += size
    here = _snapshot(name)
    if here is None:
        raise ModelError(f"{name} was fetched but is not complete; remove it with `superscope models` and try again.")
    return here


def look(name: str) -> tuple[int, dict[str, Any], bool]:
    """Parameters, facts and whether it is here already, of the hub's model ``org/name``; weights are not fetched.

    Raises:
        ModelError: as `downloaded` says.
    """
    here = _snapshot(name)
    if here is not None:
        folder = inspect(here)
        return folder.parameters, of_config(folder.config), True
    info = ask(name)
    files = _wanted(name, info)
    config = json.loads(Path(fetch(name, "config.json", info.sha, None, 0, 0)).read_bytes())
    return _parameters(info, files), of_config(config), False


def _snapshot(name: str) -> Path | None:
    """The complete copy in the hub's cache, the one that main points to where there are several; or None."""
    place = hub_folder(name)
    commits = []
    with contextlib.suppress(OSError):
        commits.append((place / "refs" / "main").read_text("utf-8").strip())
    with contextlib.suppress(OSError):
        newest_first = sorted((place / "snapshots").iterdir(), key=lambda folder: -folder.stat().st_mtime)
        commits += [folder.name for folder in newest_first]
    for commit in commits:
        with contextlib.suppress(OSError, ModelError):
            return inspect(place / "snapshots" / commit).path
    return None


def ask(name: str) -> Any:
    """What the hub says of ``org/name``, with the sizes of its files. Raises `ModelError`, `DiskError`."""
    import huggingface_hub

    with _sentences(name):
        return huggingface_hub.HfApi().model_info(name, files_metadata=True, timeout=15)


def _wanted(name: str, info: Any) -> list[tuple[str, int]]:
    """The files to fetch with their sizes in bytes, small ones first."""
    files = [(str(file.rfilename), int(file.size or 0)) for file in info.siblings if "/" not in file.rfilename]
    weights = [file for file in files if file[0].startswith("model") and file[0].endswith(".safetensors")]
    if not weights:
        raise ModelError(
            f"{name} has no safetensors weights at the hub; files of other kinds can run code when they are read, "
            "so choose a repository that has them."
        )
    plain = [file for file in files if file[0].endswith(PLAIN)]
    return sorted(plain + weights, key=lambda file: file[1])


def _parameters(info: Any, files: list[tuple[str, int]]) -> int:
    """Number of weights as the hub counts them; where it does not, as if each were stored in two bytes."""
    counted = getattr(info, "safetensors", None)
    if counted is not None:
        return int(counted.total)
    return sum(size for file, size in files if file.endswith(".safetensors")) // 2


def fetch(name: str, file: str, revision: str, run: Run | None, done: int, total: int) -> str:
    """The path of one file of ``org/name`` in the hub's cache, fetched when it is not there; bytes for the progress.

    Raises:
        ModelError: the hub cannot be reached or does not give it.
        DiskError: there is no room for it.
    """
    import huggingface_hub
    from tqdm.auto import tqdm

    class Report(tqdm):  # type: ignore[misc]
        """Passes the bytes of one file on to the run; Stop ends the download here."""

        def __init__(self, *args: Any, **options: Any) -> None:
            options["disable"] = True
            options.pop("name", None)
            super().__init__(*args, **options)
            self.came = int(options.get("initial") or 0)

        def update(self, n: float | None = 1) -> None:
            self.came += int(n or 0)
            if run is not None:
                run.point()
                run.progress((done + self.came) / 1e6, total / 1e6, "MB")

    with _sentences(name):
        return str(huggingface_hub.hf_hub_download(name, file, revision=revision, tqdm_class=Report))


@contextlib.contextmanager
def _sentences(name: str) -> Iterator[None]:
    """Turn the hub client's many errors into one sentence each."""
    import huggingface_hub.errors as hub

    try:
        yield
    except hub.GatedRepoError:
        raise ModelError(
            f"{name} is gated: accept its terms at the hub, log in there with `hf auth login`, and try again."
        ) from None
    except hub.RepositoryNotFoundError:
        raise ModelError(f"The hub has no model {name}, or it is private; check the name.") from None
    except hub.HfHubHTTPError as problem:
        status = getattr(problem.response, "status_code", "an error")
        raise ModelError(f"The hub answered {status} when it was asked for {name}; try again later.") from problem
    except (hub.OfflineModeIsEnabled, hub.LocalEntryNotFoundError, ConnectionError, TimeoutError) as problem:
        raise _unreachable(name) from problem
    except hub.HFValidationError:
        raise ModelError(f"“{name}” is no name of a model at the hub; write org/name.") from None
    except OSError as problem:
        if problem.errno is not None and problem.filename is not None:
            from engine import files

            raise files.explain(problem, hub_cache() / name) from problem
        raise _unreachable(name) from problem
    except Exception as problem:
        # The client's transport (requests, httpx or httpx2, by version) has errors of its own.
        if type(problem).__module__.startswith(("httpx", "httpcore", "requests", "urllib3")):
            raise _unreachable(name) from problem
        raise


def _unreachable(name: str) -> ModelError:
    return ModelError(
        f"The hub could not be reached, and {name} is not on this machine; check the network, or choose something "
        "that is here."
    )
