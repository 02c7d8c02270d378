from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from autoglm.agent.devices.simulated import PhoneSpec, SimulatedPhone, fonts
from autoglm.agent.devices.simulated.elements import KINDS
from autoglm.agent.devices.simulated.render.screen import DRAWN
from autoglm.agent.devices.simulated.screens import SCREENS

from .driving import calm_phone, element_of, page_kinds, press, show


def pixels(phone: SimulatedPhone) -> np.ndarray[tuple[int, ...], np.dtype[np.int16]]:
    return np.asarray(phone.render(), dtype=np.int16)


def test_every_kind_has_a_drawing() -> None:
    assert set(DRAWN) == set(KINDS)


@pytest.mark.parametrize("kind", SCREENS)
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_labels_stand_out(kind: str, theme: str) -> None:
    """Inside every label's box the brightest and the darkest pixel are far apart."""
    for seed in range(4):
        phone = calm_phone(seed, ("zh", "en")[seed % 2], theme)
        show(phone, kind, *page_kinds(phone)[kind])
        grey = np.asarray(phone.render().convert("L"), dtype=np.int16)
        assert grey.shape == (phone.spec.height, phone.spec.width)
        for element in phone.elements():
            if element.text:
                left, top, right, low = element.text_box or element.box
                patch = grey[top:low, left:right]
                assert patch.max() - patch.min() >= 70, element


def test_a_switch_changes_its_row_only() -> None:
    phone = calm_phone()
    show(phone, "section", "settings", "sound")
    before = pixels(phone)
    row = element_of(phone, "toggle.silent").box
    press(phone, "toggle.silent")
    changed = np.argwhere(np.abs(pixels(phone) - before).sum(axis=2))
    assert len(changed) > 100
    assert changed[:, 0].min() >= row[1]
    assert changed[:, 0].max() < row[3]


def test_a_dialog_dims_the_page() -> None:
    phone = calm_phone()
    show(phone, "settings", "settings")
    before = pixels(phone)
    phone.state.dialog = "permission"
    assert pixels(phone)[:40].mean() < before[:40].mean() * 0.6


def test_rendering_does_not_touch_the_state() -> None:
    phone = SimulatedPhone(PhoneSpec.random(5))
    before = phone.signature()
    phone.render()
    assert phone.signature() == before


def test_a_missing_font_is_a_typed_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    fonts.font.cache_clear()
    monkeypatch.setattr(fonts, "FONT_PATH", tmp_path / "none.ttc")
    with pytest.raises(fonts.FontMissingError, match="apt-get install fonts-wqy-microhei"):
        fonts.font(20)
    monkeypatch.undo()
    fonts.font.cache_clear()
