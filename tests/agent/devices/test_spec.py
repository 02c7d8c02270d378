from __future__ import annotations

from dataclasses import replace

import pytest

from autoglm.agent.devices.simulated import PhoneSpec, SimulatedPhone
from autoglm.errors import InvalidInputError


def test_a_seed_is_a_phone() -> None:
    for seed in range(20):
        spec = PhoneSpec.random(seed)
        assert spec == PhoneSpec.random(seed)
        a, b = SimulatedPhone(spec), SimulatedPhone(spec)
        assert a.signature() == b.signature()
        assert a.elements() == b.elements()
        assert a.render().tobytes() == b.render().tobytes()


def test_seeds_differ() -> None:
    phones = [SimulatedPhone(PhoneSpec.random(seed)) for seed in range(30)]
    assert len({phone.signature() for phone in phones}) == 30
    assert len({phone.spec.language for phone in phones}) == 2
    assert len({phone.spec.theme for phone in phones}) == 2
    assert len({phone.size for phone in phones}) == 5
    assert len({phone.world.home for phone in phones}) == 30


def test_language_and_theme_replace_only_themselves() -> None:
    spec = PhoneSpec.random(7)
    for language in ("zh", "en"):
        for theme in ("light", "dark"):
            assert PhoneSpec.random(7, language, theme) == replace(spec, language=language, theme=theme)
    world = [SimulatedPhone(PhoneSpec.random(7, language)).world for language in ("zh", "en")]
    assert replace(world[0], spec=spec) == replace(world[1], spec=spec)


@pytest.mark.parametrize(
    ("field", "value"),
    [("language", "fr"), ("theme", "sepia"), ("width", 100), ("height", 801), ("font_scale", 2.0)],
)
def test_values_outside_their_sets_are_refused(field: str, value: object) -> None:
    with pytest.raises(InvalidInputError) as caught:
        replace(PhoneSpec(1), **{field: value})  # type: ignore[arg-type]
    assert caught.value.limit is not None
