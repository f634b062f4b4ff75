"""Files from elsewhere: what is refused, with which sentence, and that nothing is touched."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from engine.errors import SuperscopeError
from engine.session import NotInSession, Session, SessionError, checking, probing
from tests.engine.session.making import lines, record, saved

BIG = np.arange(50_000.0)


MADE: list[bytes] = []


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A session file with one run."""
    found = tmp_path / "a.superscope"
    if not MADE:
        MADE.append(saved(found, kept={"x": BIG}, figures={"f": lines()}).read_bytes())
    found.write_bytes(MADE[0])
    return found


@pytest.fixture(autouse=True)
def unprobed(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the files be judged by this process alone, but for tests whose bytes may end it."""
    if "seed" not in request.fixturenames:
        monkeypatch.setattr(probing, "probe", lambda path: None)


def refused(path: Path) -> str:
    """The sentence with which a file is refused; asserts that neither it nor its folder changed."""
    before = hashlib.sha256(path.read_bytes()).digest(), sorted(path.parent.iterdir())
    with pytest.raises(SessionError) as caught:
        Session.open(path)
    assert (hashlib.sha256(path.read_bytes()).digest(), sorted(path.parent.iterdir())) == before
    sentence = str(caught.value)
    assert path.name in sentence
    assert sentence.endswith(".")
    assert "\n" not in sentence
    return sentence


def change(path: Path, how: Callable[[h5py.File], None]) -> Path:
    with h5py.File(path, "r+") as file:
        how(file)
    return path


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.999])
def test_a_file_that_was_cut_short_is_refused(path: Path, share: float) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    assert "cut short" in refused(path)


def test_an_empty_file_a_text_a_folder_and_a_missing_file_are_refused(tmp_path: Path) -> None:
    (tmp_path / "empty.superscope").touch()
    assert "0 bytes" in refused(tmp_path / "empty.superscope")
    (tmp_path / "text.superscope").write_text("loss\n")
    assert "not an HDF5 file" in refused(tmp_path / "text.superscope")
    (tmp_path / "folder").mkdir()
    with pytest.raises(SessionError, match="folder is not a file"):
        Session.open(tmp_path / "folder")
    with pytest.raises(SessionError, match=r"gone\.superscope is not in"):
        Session.open(tmp_path / "gone.superscope")


def test_an_hdf5_file_of_another_program_is_refused(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["data"] = 1
    assert "not a Superscope session" in refused(tmp_path / "other.h5")


@pytest.mark.parametrize(
    ("version", "words"),
    [(2, "newer Superscope"), (99, "version 99"), (0, "version 0"), (-3, "version -3"), ("one", "unknown layout")],
)
def test_an_unknown_version_is_refused(path: Path, version: object, words: str) -> None:
    assert words in refused(change(path, lambda file: file.attrs.__setitem__("version", version)))


def _external_link(file: h5py.File) -> None:
    file["runs/pca-spectrum-1/kept/out"] = h5py.ExternalLink("/etc/other.h5", "/")


def _section_elsewhere(file: h5py.File) -> None:
    del file["models"]
    file["models"] = h5py.ExternalLink("other.superscope", "/models")


def _soft_link(file: h5py.File) -> None:
    file["runs/pca-spectrum-1/kept/out"] = h5py.SoftLink("/somewhere/else")


def _virtual(file: h5py.File) -> None:
    layout = h5py.VirtualLayout(shape=(10,), dtype="f8")
    layout[:] = h5py.VirtualSource("/etc/other.h5", "x", shape=(10,))
    file["runs/pca-spectrum-1/kept"].create_virtual_dataset("out", layout)


def _external_data(file: h5py.File) -> None:
    file["runs/pca-spectrum-1/kept"].create_dataset("out", (10,), "u1", external=[("/etc/passwd", 0, 10)])


def _filter(file: h5py.File) -> None:
    file["runs/pca-spectrum-1/kept"].create_dataset("out", data=BIG, chunks=(1000,), scaleoffset=2)


def _checksum(file: h5py.File) -> None:
    file["runs/pca-spectrum-1/kept"].create_dataset("out", data=BIG, chunks=(1000,), fletcher32=True)


def _compound(file: h5py.File) -> None:
    file["runs/pca-spectrum-1/kept/out"] = np.zeros(3, dtype=[("a", "f8"), ("b", "i4")])


def _references(file: h5py.File) -> None:
    file["runs/pca-spectrum-1/kept"].create_dataset("out", (2,), dtype=h5py.ref_dtype)


def _ragged(file: h5py.File) -> None:
    file["runs/pca-spectrum-1/kept"].create_dataset("out", (2,), dtype=h5py.vlen_dtype(np.float64))


def _opaque(file: h5py.File) -> None:
    file["runs/pca-spectrum-1/kept/out"] = np.void(b"\x80\x04pickle")


def _array_type(file: h5py.File) -> None:
    file["runs/pca-spectrum-1/kept"].create_dataset("out", (2,), dtype=np.dtype(("f8", (3,))))


def _stored_type(file: h5py.File) -> None:
    file["runs/pca-spectrum-1/kept/out"] = np.dtype("f8")


def _huge(file: h5py.File) -> None:
    file["runs/pca-spectrum-1/kept"].create_dataset("out", (2**40, 2**10), "f8", chunks=(1, 1024))


def _wide_text(file: h5py.File) -> None:
    file["runs/pca-spectrum-1/kept"].create_dataset("out", (2**12,), dtype=f"S{2**30}")


def _deep(file: h5py.File) -> None:
    file["runs/pca-spectrum-1/kept"].create_dataset("out", (1,) * 20, "f8")


@pytest.mark.parametrize(
    ("how", "words"),
    [
        (_external_link, "link to another file"),
        (_section_elsewhere, "link to another file"),
        (_soft_link, "soft link"),
        (_virtual, "virtual"),
        (_external_data, "another file"),
        (_filter, "filter 6"),
        (_checksum, "filter 3"),
        (_compound, "compound"),
        (_references, "reference"),
        (_ragged, "variable length"),
        (_opaque, "opaque"),
        (_array_type, "array"),
        (_stored_type, "stored type"),
        (_huge, "absurd shape"),
        (_wide_text, "absurd shape"),
        (_deep, "20 dimensions"),
    ],
)
def test_what_no_session_may_hold_is_refused_at_open_and_when_it_is_only_met_later(
    path: Path, monkeypatch: pytest.MonkeyPatch, how: Callable[[h5py.File], None], words: str
) -> None:
    assert words in refused(change(path, how))
    monkeypatch.setattr(checking, "LOOKED_AT", 0)  # as in a file of very many parts

    def touch() -> None:
        with Session.open(path) as session:
            session.things("models")
            np.asarray(session.kept("pca-spectrum-1", "out"))

    with pytest.raises(SessionError, match=words):
        touch()


@pytest.mark.parametrize("store", ["../other.h5", "/etc/passwd", "a/../../b.npy", "C:\\x.npy", "..\\x.npy", ""])
def test_an_activation_store_outside_the_data_folder_is_refused(path: Path, store: str) -> None:
    def how(file: h5py.File) -> None:
        group = file["activations"].create_group("acts-1")
        group.attrs["path"] = store
        group.attrs["sha256"] = "0" * 64

    assert "a.superscope.data" in refused(change(path, how))


def test_a_store_that_a_link_leads_out_of_the_data_folder_is_refused(path: Path) -> None:
    data = path.with_name("a.superscope.data")
    data.mkdir()
    (data / "link").symlink_to(path.parent.parent)
    change(path, lambda file: file["activations"].create_group("acts-1").attrs.__setitem__("path", "link/x.npy"))
    assert "outside the folder" in refused(path)


def test_a_run_whose_name_is_no_id_can_be_read_and_deleted(path: Path) -> None:
    """Somebody's script or a spoilt byte may have written it; it never becomes the name of a folder."""

    def how(file: h5py.File) -> None:
        file.create_group("runs/Not An Id").attrs["experiment"] = "odd"
        file["runs/Not An Id/metrics/loss"] = np.ones((1, 3))

    with Session.open(change(path, how)) as session:
        assert session.run("Not An Id").experiment == "odd"
        assert session.metric("Not An Id", "loss").tolist() == [[1, 1, 1]]
        with pytest.raises(SessionError, match="is not an id"):
            session.run_folder("Not An Id")
        session.delete("runs", "Not An Id")
        session.save().wait()
        assert [run.id for run in session.runs()] == ["pca-spectrum-1"]


def test_a_bomb_opens_but_is_not_unpacked(path: Path) -> None:
    def how(file: h5py.File) -> None:
        file["runs/pca-spectrum-1/metrics"].create_dataset(
            "bomb", (2**30, 3), "f8", chunks=(2**16, 3), compression="gzip", fillvalue=1.0
        )

    with Session.open(change(path, how)) as session:
        assert len(session.metric("pca-spectrum-1", "loss")) == 4
        with pytest.raises(SessionError, match=r"claims 24\.0 GiB"):
            session.metric("pca-spectrum-1", "bomb")


def test_a_metric_of_a_wrong_shape_is_said_when_it_is_asked_for(path: Path) -> None:
    change(path, lambda file: file["runs/pca-spectrum-1/metrics"].create_dataset("odd", data=np.zeros((4, 2))))
    with Session.open(path) as session, pytest.raises(SessionError, match=r"shape \(4, 2\)"):
        session.metric("pca-spectrum-1", "odd")


def test_a_figure_of_an_unknown_kind_or_without_its_arrays_is_said_when_it_is_asked_for(path: Path) -> None:
    def how(file: h5py.File) -> None:
        figures = file["runs/pca-spectrum-1/figures"]
        figures.create_group("new").attrs.update(kind="hologram", spec="{}")
        figures.create_group("bare").attrs.update(kind="lines", spec="not json")
        figures.create_group("cut").attrs.update(kind="lines", spec='{"title": "t", "x_axis": 3}')

    with Session.open(change(path, how)) as session:
        for name, words in (("new", "hologram"), ("bare", "incomplete"), ("cut", "figure")):
            with pytest.raises(SuperscopeError, match=words):
                session.figure("pca-spectrum-1", name)
        assert session.figure("pca-spectrum-1", "f").title == "Loss"


def test_cycles_of_hard_links_end(path: Path) -> None:
    def how(file: h5py.File) -> None:
        file["runs/pca-spectrum-1/kept/loop"] = file["runs"]

    with Session.open(change(path, how)) as session:
        assert len(session.runs()) == 1


def test_what_is_missing_is_said_with_its_name(path: Path) -> None:
    with Session.open(path) as session:
        for ask in (
            lambda: session.run("pca-spectrum-9"),
            lambda: session.metric("pca-spectrum-1", "nothing"),
            lambda: session.figure("pca-spectrum-1", "nothing"),
            lambda: session.kept("pca-spectrum-1", "nothing"),
            lambda: session.thing_array("models", "nothing", "W"),
            lambda: session.kept("../../etc", "passwd"),
        ):
            with pytest.raises(NotInSession):
                ask()
        with pytest.raises(SessionError, match="no section"):
            session.things("circuits")


def _spoil(path: Path, where: str) -> bytes:
    """Overwrite the beginning of the object at ``where``; the whole file as it is then."""
    with h5py.File(path) as file:
        address = h5py.h5o.get_info(file[where].id).addr
    content = bytearray(path.read_bytes())
    content[address : address + 32] = b"\xee" * 32
    path.write_bytes(bytes(content))
    return bytes(content)


def test_one_damaged_run_leaves_the_others_usable_and_is_said_when_touched(tmp_path: Path) -> None:
    path = tmp_path / "a.superscope"
    with Session.create() as session:
        record(session, figures={"f": lines()})
        record(session, figures={"f": lines()})
        session.save(path).wait()
    _spoil(path, "runs/pca-spectrum-1/figures/f")
    with Session.open(path) as session:
        assert [run.id for run in session.runs()] == ["pca-spectrum-1", "pca-spectrum-2"]
        assert session.figure("pca-spectrum-2", "f").title == "Loss"
        assert len(session.metric("pca-spectrum-1", "loss")) == 4
        with pytest.raises(SessionError, match="damaged and cannot be read; the rest of the session can be used"):
            session.figure("pca-spectrum-1", "f")


def test_a_run_whose_record_is_damaged_is_listed_and_says_so(tmp_path: Path) -> None:
    path = tmp_path / "a.superscope"
    with Session.create() as session:
        record(session)
        record(session)
        session.save(path).wait()
    _spoil(path, "runs/pca-spectrum-1")
    with Session.open(path) as session:
        first, second = sorted(session.runs(), key=lambda run: run.id)
        assert first.state == "failed"
        assert "damaged" in first.error
        assert second.state == "finished"


def test_saving_a_damaged_session_keeps_what_is_whole_and_the_old_file_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "a.superscope"
    with Session.create() as session:
        record(session, figures={"f": lines(), "g": lines()})
        session.save(path).wait()
    content = _spoil(path, "runs/pca-spectrum-1/figures/f")
    session = Session.open(path)
    record(session)
    result = session.save().wait()
    assert "/runs/pca-spectrum-1/figures/f" in result.warning
    assert session.figure_names("pca-spectrum-1") == ["g"]
    assert len(session.metric("pca-spectrum-1", "loss")) == 4
    session.close()
    (kept,) = tmp_path.glob("a damaged *.superscope")
    assert kept.name in result.warning
    assert kept.read_bytes() == content


@pytest.mark.parametrize("seed", range(15))
def test_a_file_with_random_bytes_spoilt_opens_or_is_refused_and_never_raises_anything_else(
    path: Path, seed: int
) -> None:
    content = bytearray(path.read_bytes())
    generator = np.random.default_rng(seed)
    structure = np.flatnonzero(np.frombuffer(content, np.uint8)[: len(content) - BIG.nbytes])
    for place in generator.choice(structure, 30):
        content[place] = generator.integers(0, 256)
    path.write_bytes(bytes(content))
    try:
        session = Session.open(path)
    except SessionError:
        return
    for read in (
        session.runs,
        lambda: session.metric("pca-spectrum-1", "loss"),
        lambda: session.figure("pca-spectrum-1", "f"),
        lambda: np.asarray(session.kept("pca-spectrum-1", "x")),
        lambda: session.log("pca-spectrum-1"),
        lambda: [session.things(section) for section in ("models", "corpora", "activations", "dictionaries")],
    ):
        with contextlib.suppress(SuperscopeError):
            read()
    session.close(discard=True)
