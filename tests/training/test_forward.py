"""The differentiable forward computes what the served model computes."""

from __future__ import annotations

import torch

from autoglm.model.autoglm_phone import AutoGLMPhoneConfig, AutoGLMPhoneModel
from autoglm.model.autoglm_phone.stem import ConvStem
from autoglm.model.context import ForwardContext, KVStore, SequenceSlice, VisualSpan
from autoglm.model.initialise import initialise
from training.forward import Batch, encode_screens, run
from training.shape import CELLS, COLUMNS, PATCH, ROWS, config_json
from training.stem import NormedStem

NAMES = ("<|system|>", "<|user|>", "<|observation|>", "<|image|>", "</answer>", "<|endoftext|>")
IDS = {name: index for index, name in enumerate(NAMES)}
VOCABULARY = 90


def trained_model() -> AutoGLMPhoneModel:
    """Random, with gates open and a stem that has seen some batches."""
    model = AutoGLMPhoneModel(AutoGLMPhoneConfig.from_dict(config_json(IDS, VOCABULARY)))
    initialise(model, 3, std=0.1)
    for module in model.cross_attention:
        module.gate.data.fill_(0.8)
    stem = NormedStem(3, model.config.vision.stem_channels)
    torch.manual_seed(0)
    for _ in range(3):
        stem(torch.randn(2, 3, 64, 48))
    model.visual.stem = stem
    return model.eval()


def served(model: AutoGLMPhoneModel) -> AutoGLMPhoneModel:
    stem = model.visual.stem
    assert isinstance(stem, NormedStem)
    plain = ConvStem(3, model.config.vision.stem_channels)
    plain.load_state_dict(stem.folded())
    model.visual.stem = plain
    return model


@torch.inference_mode()
def test_padded_batches_agree_with_the_engines_forward() -> None:
    model = trained_model()
    pixels = torch.randn(2, 3, ROWS * PATCH, COLUMNS * PATCH, generator=torch.Generator().manual_seed(1))
    lengths, image_from, samples = [9, 14, 11, 5], [3, 6, 2, 1], 4
    ids = torch.randint(len(NAMES), VOCABULARY, (samples, max(lengths)), generator=torch.Generator().manual_seed(2))
    batch = Batch(
        ids,
        torch.tensor(lengths),
        torch.tensor(image_from),
        torch.ones(samples, dtype=torch.int64),
        torch.tensor([[1, 7, 20], [3, 2, 300]]),
        torch.tensor([[1, 12, 3], [0, 4, 1]]),
    )
    visual = encode_screens(model.visual, pixels)
    ours = run(model, batch, visual)
    assert ours.look_loss.item() > 0

    plain = served(model)
    features = plain.encode_images(list(pixels), [(1, ROWS, COLUMNS)] * 2)
    assert features[0].tensors[0].shape[1] == CELLS
    for index, (length, first) in enumerate(zip(lengths, image_from, strict=True)):
        kv = KVStore(plain.kv_spec, 32, torch.device("cpu"))
        context = ForwardContext(
            torch.arange(length).expand(3, -1),
            torch.arange(length),
            [SequenceSlice(0, length, length, torch.arange(length))],
            kv,
            [VisualSpan(first, length, (features[index // 2],))],
        )
        hidden = plain.forward(plain.embed_tokens(ids[index, :length]), context)
        expected = plain.compute_logits(hidden)[:-1]
        torch.testing.assert_close(ours.logits[ours.sample == index], expected, atol=2e-4, rtol=2e-4)
        assert torch.equal(ours.targets[ours.sample == index], ids[index, 1:length])
