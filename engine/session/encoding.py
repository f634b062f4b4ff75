"""How values and arrays are written into an HDF5 group and read back, in layout version 1.

Plain text and numbers are attributes. Lists and mappings are attributes that hold JSON as UTF-8;
what exceeds 64 KB becomes a scalar text dataset of the same name. Text arrays are variable-length
UTF-8; those that HDF5 text cannot hold (a NUL inside, half a surrogate pair) have each item
written as a JSON string, and say so in the attribute ``text_encoding``.

Everything here takes h5py objects and imports h5py only where it is needed.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from engine.session import attributes, checking
from engine.session.errors import SessionError

Array: TypeAlias = npt.NDArray[Any]

LARGE = 64 * 1024  # bytes of text beyond which an attribute becomes a dataset
JSON_NAMES = frozenset(
    {
        "facts",
        "source",
        "config",
        "parameters",
        "environment",
        "spec",
        "tags",
        "counters",
        "values",
        "rows",
        "log",
        "shown",
    }
)
LISTED = "json_attributes"  # names of further attributes that hold JSON
ENCODING = "text_encoding"


# ---- attributes


def to_text(value: Any) -> str:
    """JSON as it is stored: UTF-8 where possible; half surrogate pairs as their escapes."""
    text = json.dumps(value, ensure_ascii=False, default=_plain)
    return text.encode("utf-8", "backslashreplace").decode()


def put(group: Any, values: Mapping[str, Any]) -> None:
    """Write ``values`` as attributes of ``group``; None values are left out, older ones of a name replaced."""
    listed = [_text(name) for name in attributes.read_one(group, LISTED) or ()] if LISTED in group.attrs else []
    before = list(listed)
    for name, value in values.items():
        _remove(group, name)
        if name in listed:
            listed.remove(name)
        if value is None:
            continue
        value = value.item() if isinstance(value, np.generic) else value
        if name in JSON_NAMES or not _is_plain(value):
            if name not in JSON_NAMES:
                listed.append(name)
            value = to_text(value)
        if isinstance(value, str) and len(value) * 4 > LARGE and len(value.encode()) > LARGE and _is_group(group):
            put_text(group, name, value)
        else:
            group.attrs[name] = value
    if listed != before:
        _put_strings(group, LISTED, listed)


def get(group: Any) -> dict[str, Any]:
    """All attributes of ``group`` as `put` was given them."""
    values: dict[str, Any] = {name: _native(value) for name, value in attributes.read_all(group).items()}
    for name in large_names(group):
        values[name] = _text(group[name][()])
    values.pop(ENCODING, None)
    for name in [*values.pop(LISTED, ()), *JSON_NAMES]:
        if isinstance(values.get(name), str):
            values[name] = _parsed(values[name])
    return values


def get_one(group: Any, name: str, default: Any = None) -> Any:
    """One attribute, or ``default`` where it is absent."""
    if name in group.attrs:
        value = _native(attributes.read_one(group, name))
    elif name in large_names(group):
        value = _text(group[name][()])
    else:
        return default
    return _parsed(value) if name in JSON_NAMES and isinstance(value, str) else value


def large_names(group: Any) -> list[str]:
    """Names of the scalar text datasets of ``group``: attributes too long to be one."""
    return [name for name, item in children(group) if _is_large_text(item)]


def children(group: Any) -> Iterator[tuple[str, Any]]:
    """Name and object of everything in a group, in order, links and datasets checked; none for a dataset."""
    import h5py

    if not isinstance(group, h5py.Group):
        return
    file = Path(group.file.filename).name
    for raw in list(group.id):
        name = raw.decode()
        where = f"{group.name}/{name}"
        checking.check_link(group.id, raw, where, file)
        item = group[name]
        if not isinstance(item, h5py.Group):
            checking.check_dataset(item.id, where, file)
        yield name, item


def _is_large_text(item: Any) -> bool:
    import h5py

    return isinstance(item, h5py.Dataset) and item.shape == () and h5py.check_string_dtype(item.dtype) is not None


def _is_plain(value: Any) -> bool:
    if isinstance(value, str):
        return _encodes(value)
    if isinstance(value, bool):
        return True
    if isinstance(value, int):
        return -(2**63) <= value < 2**63
    return isinstance(value, float)


def _encodes(text: str) -> bool:
    try:
        return b"\0" not in text.encode()
    except UnicodeEncodeError:
        return False


def _remove(group: Any, name: str) -> None:
    if name in group.attrs:
        del group.attrs[name]
    if name in large_names(group):
        del group[name]


def _is_group(item: Any) -> bool:
    import h5py

    return isinstance(item, h5py.Group)


def put_text(group: Any, name: str, text: str) -> None:
    """Store ``text`` as a scalar dataset, replacing what is there."""
    import h5py

    _remove(group, name)
    clean = text.replace("\0", "\u2400").encode("utf-8", "replace").decode()
    group.create_dataset(name, data=clean, dtype=h5py.string_dtype())


def _put_strings(group: Any, name: str, values: list[str]) -> None:
    import h5py

    group.attrs.create(name, np.asarray(values, dtype=object), dtype=h5py.string_dtype(), shape=(len(values),))


def _native(value: Any) -> Any:
    if isinstance(value, bytes):
        return _text(value)
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        return [_native(item) for item in value.tolist()]
    return value if isinstance(value, str | int | float | bool) else str(value)


def _text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text  # written by another program that keeps plain text there


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        return value.tolist()
    return str(value)


# ---- arrays


def check_storable(name: str, array: Array) -> None:
    """Refuse arrays that no plain HDF5 type can hold.

    Raises:
        SessionError: the array holds Python objects, records or dates.
    """
    if array.dtype.kind not in "biufcUS":
        raise SessionError(
            f"The array {name} has the type {array.dtype}, which a session cannot hold; keep numbers, booleans or text."
        )


def put_array(group: Any, name: str, array: Array) -> Any:
    """Store ``array`` as dataset ``name``: contiguous, unfiltered, bit for bit. Returns the dataset."""
    import h5py

    check_storable(name, array)
    if array.dtype.kind != "U":
        dataset = group.create_dataset(name, data=array)
        if array.dtype.kind == "S":
            dataset.attrs[ENCODING] = "bytes"
        return dataset
    items = [str(item) for item in array.ravel()]
    plain = all(_encodes(item) for item in items)
    stored = np.empty(len(items), dtype=object)
    stored[:] = items if plain else [json.dumps(item) for item in items]
    dataset = group.create_dataset(name, data=stored.reshape(array.shape), dtype=h5py.string_dtype())
    if not plain:
        dataset.attrs[ENCODING] = "json"
    return dataset


def read_array(dataset: Any) -> Array:
    """The whole of a dataset as a numpy array; text as ``str``."""
    import h5py

    encoding = _text(attributes.read_one(dataset, ENCODING) or "")
    if not h5py.check_string_dtype(dataset.dtype) or encoding == "bytes":
        array: Array = np.empty(dataset.shape, dataset.dtype)
        if array.size:
            dataset.read_direct(array)  # indexing gives a scalar in the machine's own byte order
        return array
    values = np.asarray(dataset[()], dtype=object)
    items = [_text(item) for item in values.ravel()]
    if encoding == "json":
        items = [str(json.loads(item)) for item in items]
    return np.asarray(items, dtype=np.str_).reshape(values.shape)


def array_names(group: Any, prefix: str = "") -> Iterator[str]:
    """Names of all arrays below ``group``, in order; deeper ones as ``features/density``."""
    import h5py

    for name, item in children(group):
        if isinstance(item, h5py.Group):
            yield from array_names(item, f"{prefix}{name}/")
        elif not _is_large_text(item):
            yield prefix + name
