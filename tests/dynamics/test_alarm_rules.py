"""Each alarm on a history that must fire it and on those that must not."""

from collections.abc import Mapping

import pytest
from step_records import HEALTHY, make_history

from hydrometer.dynamics import METRICS, RULES, Alarm, Rule, check_alarms, find_metric
from hydrometer.dynamics.alarms import WINDOW_STEPS, History

Shapes = dict[str, tuple[float, float, float]]
FIRING: dict[str, Shapes] = {
    "mass_suppression": {"student_topk_mass": (0.97, 0.4, 0.01), "student_entropy": (0.6, 2.5, 0.05)},
    "repetition": {"repeat_ratio": (0.51, 0.99, 0.03)},
    "length_inflation": {"response_tokens_mean": (120.0, 240.0, 10.0)},
    "truncation": {"truncated_share": (0.05, 0.7, 0.05)},
    "stagnant_overlap": {"overlap_ratio": (0.6, 0.605, 0.01), "accuracy": (0.4, 0.4, 0.03)},
    "tail_entropy": {"student_entropy_bin_2": (0.8, 1.6, 0.05)},
    "vanishing_kl": {"reverse_kl": (0.006, 0.004, 0.001), "accuracy": (0.4, 0.4, 0.03)},
    "vanishing_gradient": {"gradient_norm": (2.0, 0.02, 0.01), "accuracy": (0.4, 0.4, 0.03)},
    "useless_reward": {"sequence_reward_auroc": (0.5, 0.5, 0.06)},
}
NOT_FIRING: dict[str, Shapes] = {
    "mass falls, entropy too": {"student_topk_mass": (0.97, 0.8, 0.01), "student_entropy": (0.9, 0.5, 0.05)},
    "entropy rises, mass stays": {"student_topk_mass": (0.97, 0.965, 0.01), "student_entropy": (0.6, 1.2, 0.05)},
    "all bins rise together": {name: (0.5, 1.5, 0.05) for name in HEALTHY if "_bin_" in name},
    "converged after learning": {"reverse_kl": (0.5, 0.001, 0.001), "accuracy": (0.3, 0.8, 0.03)},
    "small gradients while learning": {"gradient_norm": (2.0, 0.01, 0.01), "accuracy": (0.3, 0.8, 0.03)},
    "flat overlap, but high": {"overlap_ratio": (0.93, 0.93, 0.01)},
    "flat overlap while learning": {"overlap_ratio": (0.44, 0.44, 0.01), "accuracy": (0.5, 0.85, 0.03)},
    "low overlap that grows": {"overlap_ratio": (0.3, 0.7, 0.02)},
}


def _replay(history: History) -> list[Alarm]:
    """All alarms of a run, as the training loop meets them."""
    return [alarm for steps in range(1, len(history) + 1) for alarm in check_alarms(history[:steps])]


@pytest.mark.parametrize("name", [rule.name for rule in RULES])
@pytest.mark.parametrize("seed", [0, 1])
def test_every_sign_fires_its_alarm_once_and_no_other(name: str, seed: int) -> None:
    alarms = _replay(make_history(120, seed=seed, **FIRING[name]))
    assert [alarm.name for alarm in alarms] == [name]
    rule = next(rule for rule in RULES if rule.name == name)
    assert alarms[0].threshold == rule.threshold
    assert (alarms[0].mechanism, alarms[0].cure) == (rule.mechanism, rule.cure)
    assert alarms[0].step >= 2 * WINDOW_STEPS - 1


class _Noted(dict[str, float | int | None]):
    """A step that knows which of its metrics were asked for."""

    def __init__(self, step: Mapping[str, float | int | None], asked: set[str]):
        super().__init__(step)
        self.asked = asked

    def get(self, key: str, default: float | int | None = None) -> float | int | None:
        self.asked.add(key)
        return super().get(key, default)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_an_alarm_names_what_its_rule_read(rule: Rule) -> None:
    history = make_history(120, seed=0, **FIRING[rule.name])
    [alarm] = _replay(history)
    asked: set[str] = set()
    noted = [_Noted(step, asked) for step in history]
    assert [rule.find(noted[:steps]) for steps in range(1, len(noted) + 1)] != [None] * len(noted)
    assert set(alarm.metrics) == asked
    assert len(alarm.metrics) == len(asked)


@pytest.mark.parametrize("seed", range(6))
def test_a_healthy_run_is_quiet(seed: int) -> None:
    assert _replay(make_history(150, seed=seed)) == []


@pytest.mark.parametrize("case", NOT_FIRING)
def test_half_a_sign_is_quiet(case: str) -> None:
    assert _replay(make_history(120, seed=3, **NOT_FIRING[case])) == []


@pytest.mark.parametrize("seed", range(6))
def test_strong_noise_around_a_constant_mean_is_quiet(seed: int) -> None:
    noisy = {name: (start, start, max(noise, 0.3 * start)) for name, (start, _, noise) in HEALTHY.items()}
    noisy["overlap_ratio"] = (0.95, 0.95, 0.03)
    noisy["sequence_reward_auroc"] = (0.75, 0.75, 0.1)
    assert _replay(make_history(150, seed=seed, **noisy)) == []


def test_one_wild_step_is_quiet() -> None:
    history = make_history(60)
    history[40] |= {"repeat_ratio": 1.0, "response_tokens_mean": 900.0, "truncated_share": 1.0, "student_entropy": 9.0}
    history[40] |= {"student_topk_mass": 0.1, "sequence_reward_auroc": 0.0, "student_entropy_bin_2": 9.0}
    assert _replay(history) == []


def test_the_step_and_value_of_a_jump() -> None:
    history = [{"step": 10 + step, "repeat_ratio": 0.2 if step < 30 else 0.9} for step in range(60)]
    (alarm,) = _replay(history)
    # With n steps after the jump the newest ten have risen by 0.07 n, and one of 29 + n differences is 0.7, so that
    # 4 standard errors are 4 * 0.7 sqrt(0.1 / (29 + n)): 0.159 > 0.14 at n = 2, 0.157 < 0.21 at n = 3.
    assert (alarm.name, alarm.step) == ("repetition", 10 + 30 + 2)
    assert alarm.value == pytest.approx(0.21)


def test_a_second_onset_fires_again_but_flicker_does_not() -> None:
    def ratio(step: int) -> float:
        if 30 <= step < 60 or step >= 100:
            return 0.9
        return 0.2

    alarms = _replay([{"step": step, "repeat_ratio": ratio(step)} for step in range(140)])
    assert [alarm.step for alarm in alarms] == [32, 102]
    flicker = [{"step": step, "repeat_ratio": 0.2 + (0.7 if step >= 30 and step % 5 else 0.0)} for step in range(140)]
    assert len(_replay(flicker)) == 1


def test_a_history_alone_decides_whatever_was_asked_before() -> None:
    history = make_history(120, **FIRING["mass_suppression"])
    (alarm,) = _replay(history)
    upto = history[: alarm.step + 1]
    assert check_alarms(upto) == check_alarms(upto) == [alarm]
    assert check_alarms(history[: alarm.step]) == []


def test_metrics_that_do_not_exist_fire_nothing() -> None:
    assert check_alarms([]) == []
    assert _replay(make_history(80, change=lambda *_: None)) == []
    mostly = make_history(
        80, change=lambda name, value: None if name == "overlap_ratio" else value, **FIRING["repetition"]
    )
    assert [alarm.name for alarm in _replay(mostly)] == ["repetition"]


def test_rules_read_metrics_of_the_table() -> None:
    for name in HEALTHY:
        assert find_metric(name) in METRICS.values()
    assert len({rule.name for rule in RULES}) == len(RULES) == len(FIRING)


def test_the_tail_is_the_last_bin_by_number() -> None:
    shapes: Shapes = {f"student_entropy_bin_{number}": (0.5, 0.5, 0.02) for number in range(11)}
    assert _replay(make_history(60, **shapes)) == []
    (alarm,) = _replay(make_history(60, **shapes | {"student_entropy_bin_10": (0.5, 1.5, 0.02)}))
    assert alarm.name == "tail_entropy"
    assert _replay(make_history(60, **shapes | {"student_entropy_bin_9": (0.5, 1.5, 0.02)})) == []
