from collections.abc import Callable

import pytest
from letter_subjects import build_subjects

from hydrometer.preflight.subjects import Subjects


@pytest.fixture
def subjects() -> Callable[..., Subjects]:
    return build_subjects
