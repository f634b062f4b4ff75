"""Fixtures: the real SmolLM2, and tiny random models built on the spot."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.conftest import MODEL_HOME

if TYPE_CHECKING:
    from engine.models.opening import OpenModel

TEXT = "The quick brown fox jumps over the lazy dog. A man a plan a canal: Panama! 0123456789\n"
SPECIAL = ["<s>", "</s>", "<unk>"]


@pytest.fixture(scope="session")
def smollm2(tmp_path_factory: pytest.TempPathFactory) -> OpenModel:
    """SmolLM2-135M-Instruct on the CPU in float32, opened once for all tests."""
    import torch

    from engine.models.opening import open_model

    if not (MODEL_HOME / "smollm2" / "superscope.json").is_file():
        pytest.fail(f"SmolLM2 is not in {MODEL_HOME}; `python -m tests.fetch_models {MODEL_HOME}` fetches it.")
    home = tmp_path_factory.mktemp("home")
    (home / "cache").mkdir()
    (home / "cache" / "models").symlink_to(MODEL_HOME, target_is_directory=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SUPERSCOPE_HOME", str(home))
        threads = torch.get_num_threads()
        model = open_model("smollm2", device="cpu")
        torch.set_num_threads(threads)
    return model


@pytest.fixture(scope="session")
def tiny_hf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a random two-layer Llama with grouped queries (4 heads, 2 key/value heads, d_model 32)."""
    from transformers import LlamaConfig, LlamaForCausalLM

    folder = tmp_path_factory.mktemp("models") / "tiny-llama"
    size = save_tokenizer(folder)
    config = LlamaConfig(
        vocab_size=size,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=64,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=1,
    )
    save_model(LlamaForCausalLM, config, folder)
    return folder


@pytest.fixture(scope="session")
def tiny_gpt2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a random two-layer GPT-2 (4 heads, d_model 32, learned positions, LayerNorm)."""
    from transformers import GPT2Config, GPT2LMHeadModel

    folder = tmp_path_factory.mktemp("models") / "tiny-gpt2"
    size = save_tokenizer(folder)
    config = GPT2Config(
        vocab_size=size, n_embd=32, n_layer=2, n_head=4, n_positions=64, bos_token_id=0, eos_token_id=1, pad_token_id=1
    )
    save_model(GPT2LMHeadModel, config, folder)
    return folder


@pytest.fixture(scope="session")
def tiny(tiny_hf: Path) -> OpenModel:
    """`tiny_hf`, opened on the CPU in float32."""
    from engine.models.opening import open_model

    return open_model(str(tiny_hf), device="cpu")


def save_tokenizer(folder: Path) -> int:
    """A small byte-level BPE with BOS, EOS and unknown in ``folder``; the size of its vocabulary."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    inner = Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=300,
        special_tokens=SPECIAL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    inner.train_from_iterator([TEXT], trainer)
    inner.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=inner, bos_token="<s>", eos_token="</s>", unk_token="<unk>", pad_token="</s>"
    )
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save_pretrained(folder)
    return int(inner.get_vocab_size())


def save_model(kind: Any, config: Any, folder: Path) -> None:
    """A randomly initialised model of ``kind`` in ``folder``, the same each time."""
    import torch

    from engine.models.quiet import quiet

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = kind(config)
        for weight in model.parameters():  # larger than at initialisation, so that every part matters
            torch.nn.init.normal_(weight, std=0.2)
    with quiet():
        model.eval().save_pretrained(folder)
