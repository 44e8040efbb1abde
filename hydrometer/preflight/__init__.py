"""Checks before a run is paid for: mistakes that cost training runs, each found by asking the models themselves.

config -> load (models, probes) -> inspect (every check) -> findings
"""

from hydrometer.preflight.config import CheckConfig

__all__ = ["CheckConfig"]
