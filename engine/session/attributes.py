"""Reading HDF5 attributes of files that may be damaged: only types that cannot hurt reach the library.

Reading an attribute whose stored type is a variable-length sequence of nonsense ends HDF5, and
with it the whole process, in a segmentation fault; so the type is looked at first.
"""

from __future__ import annotations

from typing import Any

import numpy as np

MOST = 1_000_000  # values of one attribute


def read_all(item: Any) -> dict[str, Any]:
    """All attributes of an h5py object: numbers, text, arrays of either.

    Raises:
        ValueError: one of them is of a type that no session holds, or damaged.
    """
    from h5py import h5a

    found = {}
    for index in range(h5a.get_num_attrs(item.id)):
        attribute = h5a.open(item.id, index=index)
        name = attribute.name.decode()
        found[name] = _value(attribute, name)
    return found


def read_one(item: Any, name: str) -> Any:
    """One attribute of an h5py object; None where there is none. Raises as `read_all`."""
    from h5py import h5a

    raw = name.encode()
    return _value(h5a.open(item.id, raw), name) if h5a.exists(item.id, raw) else None


def _value(attribute: Any, name: str) -> Any:
    from h5py import h5s, h5t

    kind, space = attribute.get_type(), attribute.get_space()
    if not isinstance(kind, h5t.TypeStringID) and kind.get_class() not in (h5t.INTEGER, h5t.FLOAT, h5t.ENUM):
        raise ValueError(f"the attribute {name} has a type that sessions do not hold")
    if space.get_simple_extent_type() == h5s.NULL:
        return None
    if space.get_simple_extent_npoints() > MOST or kind.get_size() > MOST:
        raise ValueError(f"the attribute {name} has an absurd size")
    dtype = attribute.dtype
    values = np.empty(attribute.shape, dtype=dtype)
    attribute.read(values)
    return values[()] if values.shape == () else values
