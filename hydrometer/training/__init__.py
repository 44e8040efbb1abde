"""The train corridor: one loop for every objective. sample -> teach -> weigh -> gradient -> step -> look -> keep."""

from hydrometer.training.config import TrainConfig

__all__ = ["TrainConfig"]
