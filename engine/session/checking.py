"""What a session file from elsewhere may contain, and the refusal of everything else.

A file is looked through when it is opened (up to `LOOKED_AT` objects, so that opening stays quick)
and every object is looked at again when it is touched. What breaks a rule refuses the file; what is
merely damaged is left alone until somebody asks for it.
"""

from __future__ import annotations

import errno
from collections import deque
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from engine.session import attributes
from engine.session.errors import SessionError
from engine.session.layout import FORMAT, VERSION

LOOKED_AT = 4_000  # objects checked at open; about 40 µs each
UNBACKED = 64 * 2**30  # bytes a dataset may claim without having them in the file
RATIO = 1_100  # gzip cannot do better than about 1,030 to 1
SLACK = 64 * 2**20
DIMENSIONS = 16
SIGNATURE = b"\x89HDF\r\n\x1a\n"
FILTERS = {1: "gzip", 2: "shuffle", 32000: "lzf"}
DAMAGE = (OSError, RuntimeError, KeyError, ValueError, TypeError, UnicodeError)  # what h5py raises on broken bytes


def open_hdf5(path: Path, source: str | None = None) -> Any:
    """Open ``path`` read-only after checking that it is an HDF5 file.

    Raises:
        SessionError: it is missing, unreadable, not HDF5, or cut short.
    """
    import h5py

    try:
        size = Path(source or path).stat().st_size
        if not Path(source or path).is_file():
            raise SessionError(f"{path.name} is not a file; choose a .superscope file.")
        if size == 0:
            raise SessionError(f"{path.name} is empty (0 bytes), not a session; choose another file or a backup of it.")
        if not is_hdf5(Path(source or path)):
            raise SessionError(f"{path.name} is not a Superscope session (not an HDF5 file); choose another file.")
        if source is not None and source.startswith("/dev/fd/"):
            # HDF5 looks for the file's real name, which a removed file has not; Python just opens it.
            return h5py.File(open(source, "rb"), "r")
        return h5py.File(source or path, "r", locking=False)
    except FileNotFoundError:
        raise SessionError(f"{path.name} is not in {path.parent} any more; choose another file.") from None
    except PermissionError:
        raise SessionError(f"{path.name} may not be read by you; change its permissions or choose another.") from None
    except (OSError, RuntimeError) as problem:
        if getattr(problem, "errno", None) in (errno.EIO, errno.ESTALE):
            raise SessionError(f"{path.name} could not be read from its disk ({problem}); try a copy of it.") from None
        raise SessionError(
            f"{path.name} is damaged or was cut short (it has {size:,} bytes), so nothing of it was opened; "
            "take a backup of it."
        ) from problem


def is_hdf5(path: Path) -> bool:
    """Whether a file begins as HDF5 does. (HDF5 allows foreign bytes before that; sessions have none.)

    Raises:
        OSError: it cannot be read.
    """
    with open(path, "rb") as file:
        return file.read(len(SIGNATURE)) == SIGNATURE


def check_head(file: Any, name: str) -> int:
    """The layout version of an open file.

    Raises:
        SessionError: its ``format`` or ``version`` is not a session's, or is of a newer Superscope.
    """
    try:
        found, version = attributes.read_one(file, "format"), attributes.read_one(file, "version")
    except DAMAGE as problem:
        raise SessionError(f"{name} is damaged at its start, so nothing of it was opened; take a backup.") from problem
    if isinstance(found, bytes):
        found = found.decode("utf-8", "replace")
    if found != FORMAT:
        raise SessionError(
            f"{name} is an HDF5 file but not a Superscope session (its attribute format is {_short(found)}); "
            "choose another file."
        )
    try:
        number = int(version)  # a numpy integer
    except (TypeError, ValueError):
        raise SessionError(f"{name} has the unknown layout version {_short(version)}; choose another file.") from None
    if number > VERSION:
        raise SessionError(
            f"{name} was written by a newer Superscope (layout version {number}, this one knows {VERSION}); "
            "update Superscope to open it."
        )
    return number


def look_through(file: Any, name: str) -> None:
    """Check links and datasets, nearest to the root first, until `LOOKED_AT` objects were seen.

    Raises:
        SessionError: something breaks a rule. Damaged parts are passed over.
    """
    from h5py import h5g, h5o

    waiting, seen, looked = deque([("", file.id)]), set(), 0
    while waiting and looked < LOOKED_AT:
        path, group = waiting.popleft()
        try:
            children = list(group)
        except DAMAGE:
            continue
        for raw in children:
            looked += 1
            where = f"{path}/{raw.decode('utf-8', 'replace')}"
            try:
                check_link(group, raw, where, name)
                facts = h5o.get_info(group, raw)
                if (facts.fileno, facts.addr) in seen:
                    continue  # a hard link back up: everything below was looked at
                seen.add((facts.fileno, facts.addr))
                item = h5o.open(group, raw)
                if isinstance(item, h5g.GroupID):
                    waiting.append((where, item))
                else:
                    check_dataset(item, where, name)
            except DAMAGE:
                continue


def check_link(group: Any, raw: bytes, where: str, name: str) -> None:
    """Refuse every link that is not a plain hard link. ``group`` is a low-level GroupID."""
    from h5py import h5l

    kind = group.links.get_info(raw).type
    if kind == h5l.TYPE_EXTERNAL:
        raise SessionError(
            f"{name} was not opened: {where} is a link to another file, and a session may not reach outside itself."
        )
    if kind != h5l.TYPE_HARD:
        raise SessionError(
            f"{name} was not opened: {where} is a soft link, and a session may only hold what is its own."
        )


def check_dataset(dataset: Any, where: str, name: str) -> None:
    """Refuse datasets whose data lie elsewhere, need unknown filters, or are of an absurd shape or type.

    Args:
        dataset: a low-level DatasetID.
        where: its path, for the sentence.
        name: the file's name, for the sentence.
    """
    from h5py import h5d, h5t

    def refuse(what: str) -> SessionError:
        return SessionError(f"{name} was not opened: the dataset {where} {what}.")

    if not isinstance(dataset, h5d.DatasetID):
        raise refuse("is of a kind that sessions do not hold (a stored type)")
    plan = dataset.get_create_plist()
    if plan.get_layout() == h5d.VIRTUAL:
        raise refuse("is virtual: its data lie in other files")
    if plan.get_layout() != h5d.CHUNKED and plan.get_external_count() > 0:
        raise refuse("keeps its data in another file")
    for index in range(plan.get_nfilters()):
        code = plan.get_filter(index)[0]
        if code not in FILTERS:
            raise refuse(f"uses HDF5 filter {code}; a session may use {', '.join(FILTERS.values())} or none")
    kind = dataset.get_type()
    if not isinstance(kind, h5t.TypeStringID) and (dataset.dtype.kind not in "biufc" or kind.get_class() == h5t.ARRAY):
        raise refuse(f"has the type {_type_name(kind)}, which a session cannot hold")
    shape = dataset.shape
    if len(shape) > DIMENSIONS:
        raise refuse(f"has {len(shape)} dimensions, more than the {DIMENSIONS} a session may have")
    claimed = int(kind.get_size())
    for extent in shape:
        claimed *= int(extent)
    if claimed > UNBACKED and claimed > dataset.get_storage_size() * RATIO:
        raise refuse(
            f"claims the absurd shape {'×'.join(map(str, shape))}, {claimed / 2**30:,.0f} GiB it does not hold"
        )


def check_readable(dataset: Any, where: str, name: str) -> None:
    """Refuse to read a whole dataset that claims far more than the file holds (a decompression bomb)."""
    claimed = int(dataset.size or 0) * dataset.dtype.itemsize
    if claimed > SLACK + dataset.id.get_storage_size() * RATIO:
        raise SessionError(
            f"{where} in {name} claims {claimed / 2**30:,.1f} GiB but the file does not hold them, so it was not read; "
            "the run has to be repeated."
        )


def check_external(path: str, data: Path, where: str, name: str) -> Path:
    """Where an external activation store lies: always below ``data`` (``NAME.superscope.data``).

    Raises:
        SessionError: the path leads elsewhere.
    """
    pure = PurePosixPath(path)
    windows = PureWindowsPath(path)
    outside = pure.is_absolute() or windows.anchor or ".." in (*pure.parts, *windows.parts) or "\0" in path
    if not outside and path:
        found = data / pure
        if found.resolve().is_relative_to(data.resolve()):
            return found
    raise SessionError(
        f"{name} was not opened: {where} points to {_short(path)}, outside the folder {data.name} where its stores lie."
    )


def _type_name(kind: Any) -> str:
    from h5py import h5t

    names = {
        h5t.REFERENCE: "reference", h5t.COMPOUND: "compound", h5t.OPAQUE: "opaque", h5t.VLEN: "object (variable length)",
        h5t.ARRAY: "array", h5t.ENUM: "enumeration", h5t.BITFIELD: "bit field", h5t.TIME: "time",
    }  # fmt: skip
    return str(names.get(kind.get_class(), "unknown"))


def _short(value: Any) -> str:
    text = repr(value if not hasattr(value, "item") else value.item())
    return text if len(text) <= 60 else text[:57] + "…"
