"""The GGUF header reader agrees with the gguf package and refuses every damaged file with a sentence."""

from __future__ import annotations

import struct
from pathlib import Path

import gguf
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.models.errors import ModelError
from engine.models.gguf_header import read_header


def write_sample(path: Path) -> None:
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(3)
    writer.add_embedding_length(64)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_name("Añejo")
    writer.add_token_list(["<s>", "a", "·b"])
    writer.add_token_scores([0.0, 1.0, 2.0])
    writer.add_bool("llama.odd", True)
    writer.add_array("llama.numbers", [1, 2, 3])
    generator = np.random.default_rng(0)
    writer.add_tensor("plain", generator.normal(size=(4, 64)).astype(np.float32))
    quantised = gguf.quantize(generator.normal(size=(3, 64)).astype(np.float32), gguf.GGMLQuantizationType.Q4_1)
    writer.add_tensor("packed", quantised, raw_dtype=gguf.GGMLQuantizationType.Q4_1)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("gguf") / "sample.gguf"
    write_sample(path)
    return path


def test_values_and_tensors_are_those_the_gguf_package_reads(sample: Path) -> None:
    ours, theirs = read_header(sample), gguf.GGUFReader(sample)
    assert [(t.name, t.shape, t.kind, t.size) for t in ours.tensors] == [
        (t.name, tuple(int(n) for n in t.shape), t.tensor_type.name, int(t.n_bytes)) for t in theirs.tensors
    ]
    assert ours.parameters == 4 * 64 + 3 * 64
    assert ours.architecture == "llama"
    assert ours.of_model("block_count") == 3
    assert ours.of_model("absent", 7) == 7
    assert ours.values["general.name"] == "Añejo"
    assert ours.values["tokenizer.ggml.tokens"] == 3
    assert ours.values["llama.odd"] is True


def test_a_file_cut_anywhere_is_refused_as_cut_short(sample: Path, tmp_path: Path) -> None:
    whole = sample.read_bytes()
    for length in [*range(0, 400, 7), len(whole) // 2, len(whole) - 30]:
        cut = tmp_path / "cut.gguf"
        cut.write_bytes(whole[:length])
        with pytest.raises(ModelError, match="cut short"):
            read_header(cut)


def test_the_sentence_gives_both_lengths(sample: Path, tmp_path: Path) -> None:
    whole = sample.read_bytes()
    cut = tmp_path / "half.gguf"
    cut.write_bytes(whole[:-40])
    with pytest.raises(
        ModelError, match=rf"half\.gguf is cut short: it has {len(whole) - 40:,} bytes of the .*download"
    ):
        read_header(cut)


@given(st.binary(min_size=1, max_size=6), st.integers(min_value=4, max_value=400))
@settings(max_examples=300, deadline=None)
def test_no_damage_to_the_header_escapes_as_another_error(tmp_path_factory, patch: bytes, at: int) -> None:
    path = tmp_path_factory.mktemp("damaged") / "damaged.gguf"
    write_sample_once(path)
    content = bytearray(path.read_bytes())
    content[at : at + len(patch)] = patch
    path.write_bytes(bytes(content))
    said = ""
    try:
        read_header(path)
    except ModelError as problem:
        said = str(problem)
    assert not said or "damaged.gguf" in said


_SAMPLE: list[bytes] = []


def write_sample_once(path: Path) -> None:
    if not _SAMPLE:
        write_sample(path)
        _SAMPLE.append(path.read_bytes())
    path.write_bytes(_SAMPLE[0])


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"PK\x03\x04" + b"\0" * 40, "is no GGUF file"),
        (b"", "cut short"),
        (b"GGUF" + struct.pack("<I", 1) + b"\0" * 16, "version 1"),
        (b"GGUF" + struct.pack(">I", 3) + b"\0" * 16, "big-endian"),
        (b"GGUF" + struct.pack("<IQQ", 3, 2**60, 0), "announces"),
        (b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + struct.pack("<Q", 2**62), "cut short"),
    ],
)
def test_what_is_no_such_file_gets_one_sentence(content: bytes, said: str, tmp_path: Path) -> None:
    path = tmp_path / "x.gguf"
    path.write_bytes(content)
    with pytest.raises(ModelError, match=said):
        read_header(path)


def test_a_missing_file_and_a_folder_are_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="There is no file"):
        read_header(tmp_path / "none.gguf")
    (tmp_path / "folder.gguf").mkdir()
    with pytest.raises(ModelError, match="is a folder"):
        read_header(tmp_path / "folder.gguf")
