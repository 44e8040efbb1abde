"""One torch thread per worker, and no network: tests that need data or real models say so with a marker."""

import os
from pathlib import Path

import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")


def pytest_configure(config):
    import torch

    torch.set_num_threads(1)


def pytest_collection_modifyitems(config, items):
    for item in items:
        if item.get_closest_marker("data") and not os.environ.get("HYDROMETER_DATA"):
            item.add_marker(pytest.mark.skip(reason="HYDROMETER_DATA is not set"))
        if item.get_closest_marker("real_model") and not os.environ.get("HYDROMETER_MODELS"):
            item.add_marker(pytest.mark.skip(reason="HYDROMETER_MODELS is not set"))
        if item.get_closest_marker("vllm") and not os.environ.get("HYDROMETER_VLLM_PYTHON"):
            item.add_marker(pytest.mark.skip(reason="HYDROMETER_VLLM_PYTHON is not set"))


@pytest.fixture
def data_folder() -> Path:
    """The folder of data sets (mark the test `data`)."""
    return Path(os.environ["HYDROMETER_DATA"])


@pytest.fixture
def models_folder() -> Path:
    """The folder of real models (mark the test `real_model`)."""
    return Path(os.environ["HYDROMETER_MODELS"])


@pytest.fixture(scope="session")
def small_diagnosis(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a diagnosis of the bundled student, which tests only read; the one of docs/python.md."""
    import hydrometer

    out = tmp_path_factory.mktemp("small") / "first"
    teachers = ["expert=bundled:expert", "self+answer"]
    hydrometer.diagnose(
        out=out, teacher=teachers, objective=["reverse_kl"], questions=6, rollouts=12, paths=1, visits=4, min_visits=4
    )
    return out


@pytest.fixture(scope="session")
def small_training(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a training run of three steps of the bundled student, which tests only read."""
    import hydrometer

    out = tmp_path_factory.mktemp("small") / "trained"
    options = {"steps": 3, "prompts_per_step": 2, "num_generations": 2, "eval_questions": 2, "eval_samples": 2}
    hydrometer.train(out=out, teacher="expert=bundled:expert", check=False, **options)
    return out
