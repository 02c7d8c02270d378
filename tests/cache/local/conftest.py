from __future__ import annotations

import pytest

from autoglm.cache.local import Implementation, Policy
from tests.cache.local.helpers import IMPLEMENTATIONS, POLICIES


@pytest.fixture(params=IMPLEMENTATIONS, ids=str)
def implementation(request: pytest.FixtureRequest) -> Implementation:
    chosen: Implementation = request.param
    return chosen


@pytest.fixture(params=POLICIES, ids=str)
def policy(request: pytest.FixtureRequest) -> Policy:
    chosen: Policy = request.param
    return chosen
