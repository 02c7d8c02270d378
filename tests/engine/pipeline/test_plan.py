"""Stages are chosen by what was measured on this machine, and the measurement sees what is large."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from autoglm.engine import EngineConfig
from autoglm.engine.pipeline.measure import estimate, measure
from autoglm.engine.pipeline.plan import plan_stages
from autoglm.errors import InvalidInputError
from autoglm.model.loading import empty_model
from autoglm.model.stage import vision_before
from autoglm.synthetic import make_checkpoint, make_phone_checkpoint

CPU = torch.device("cpu")


@pytest.fixture(scope="module", params=["glm4v", "autoglm_phone"])
def checkpoint(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("plan")
    return make_phone_checkpoint(directory) if request.param == "autoglm_phone" else make_checkpoint(directory)


def test_every_part_is_measured(checkpoint: Path) -> None:
    model = empty_model(checkpoint)
    found = measure(model, torch.float32, CPU)
    assert len(found.costs.layers) == 4
    assert min(*found.costs.layers, found.costs.head, found.costs.vision) > 0
    assert found.costs.vision_before == vision_before(model)
    assert found.row.row > 0
    assert found.row.pair >= 0
    if not model.image_in_sequence:  # a layer with cross-attention is a plain one and more
        plain, fused = found.costs.layers[0], found.costs.layers[-1]
        assert fused > plain
    assert all(p.is_meta for p in model.parameters())  # the probe left the model alone


def test_the_plan_is_a_partition(checkpoint: Path) -> None:
    plan = plan_stages(checkpoint, EngineConfig(pipeline_parallel_size=3), CPU)
    stages = plan.partition.stages()
    assert [layer for s in stages for layer in range(s.first, s.last)] == [0, 1, 2, 3]
    assert stages[plan.partition.vision].first <= vision_before(empty_model(checkpoint))
    with pytest.raises(InvalidInputError, match="4 layers cannot make 5"):
        plan_stages(checkpoint, EngineConfig(pipeline_parallel_size=5), CPU)


def test_given_bounds_measure_nothing(checkpoint: Path) -> None:
    plan = plan_stages(checkpoint, EngineConfig(pipeline_parallel_size=2, pipeline_bounds="0,3"), CPU)
    assert (plan.partition.bounds, plan.partition.vision) == ((0, 3), 0)
    assert plan.row == estimate(empty_model(checkpoint))


@pytest.mark.parametrize("bounds", ["1,2", "0", "0,4", "0,2,1", "x"])
def test_bounds_that_are_none_are_refused(bounds: str, checkpoint: Path) -> None:
    with pytest.raises(InvalidInputError, match="rising numbers of layers") as error:
        plan_stages(checkpoint, EngineConfig(pipeline_parallel_size=2, pipeline_bounds=bounds), CPU)
    assert error.value.field == "pipeline_bounds"
