"""Shares and cuts: the ranks' parts make the whole, and nothing is cut where it must not be."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoglm.errors import InvalidInputError
from autoglm.parallel.tensor import Cut, Sharding, decoder_rules, fusion_rules, share, vision_rules


@given(count=st.integers(0, 500), size=st.integers(1, 12))
def test_shares_are_the_whole_in_order_and_nearly_equal(count: int, size: int) -> None:
    shares = [share(count, rank, size) for rank in range(size)]
    assert [i for start, end in shares for i in range(start, end)] == list(range(count))
    lengths = [end - start for start, end in shares]
    assert max(lengths) - min(lengths) <= 1
    assert lengths == sorted(lengths, reverse=True)  # rank 0, which sizes the KV memory of all, has the most


@given(units=st.integers(1, 16), width=st.integers(1, 8), sections=st.integers(1, 3), size=st.integers(1, 16))
def test_parts_are_the_whole_and_keep_units_together(units: int, width: int, sections: int, size: int) -> None:
    cut, length = Cut(0, units, sections), units * width * sections
    if units < size:
        with pytest.raises(InvalidInputError, match=f"x has {units} heads, .* over {size} ranks"):
            cut.ranges(length, 0, size, "x")
        return
    parts = [cut.ranges(length, rank, size, "x") for rank in range(size)]
    held = [i for section in range(sections) for part in parts for i in range(*part[section])]
    assert held == list(range(length))
    assert all(bound % width == 0 for part in parts for pair in part for bound in pair)


@given(kv_heads=st.integers(1, 8), group=st.integers(1, 8), size=st.integers(1, 16))
def test_every_query_head_meets_its_kv_head(kv_heads: int, group: int, size: int) -> None:
    """However they are shared out, a rank's query heads use its KV heads, equally many each."""
    heads = kv_heads * group
    names = [f"model.language_model.layers.0.self_attn.{part}_proj.weight" for part in "qk"]
    seen: list[int] = []
    for rank in range(size):
        sharding = Sharding(decoder_rules(heads, kv_heads, 64, size), rank, size)
        try:
            found = [sharding.ranges(name, (count, 1)) for name, count in zip(names, (heads, kv_heads), strict=True)]
        except InvalidInputError:
            assert kv_heads < size
            assert size % kv_heads or heads % size
            return
        assert found[0] is not None
        assert found[1] is not None
        (q_first, q_end), (kv_first, kv_end) = found[0][1][0], found[1][1][0]
        local_group, rest = divmod(q_end - q_first, kv_end - kv_first)
        assert rest == 0
        assert all((q_first + i) // group == kv_first + i // local_group for i in range(q_end - q_first))
        seen += range(q_first, q_end)
    assert seen == list(range(heads))


def test_small_things_are_whole_on_every_rank() -> None:
    sharding = Sharding(decoder_rules(4, 2, 64, 2) + vision_rules(4) + fusion_rules(4, 2, 2), 1, 2)
    for name in (
        "model.language_model.layers.0.input_layernorm.weight",
        "model.visual.patch_embed.proj.weight",
        "model.visual.projector.out.bias",
        "model.cross_attention.0.gate",
        "model.cross_attention.0.q_norm.weight",
        "model.time_gate.scale",
    ):
        assert sharding.ranges(name, (8, 8)) is None, name
    assert sharding.local_rows("model.visual.projector.up.bias", 8) == 4
    assert sharding.ranges("model.visual.projector.out.weight", (8, 8)) == (1, [(4, 8)])
    assert sharding.ranges("model.language_model.layers.3.mlp.gate_up_proj.weight", (128, 8)) == (
        0,
        [(32, 64), (96, 128)],
    )
