"""Choosing between candidates: intervals against plain loops, pairing, and what is needed to leave the first one."""

from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from hydrometer.artifacts import read_json, read_table
from hydrometer.errors import SpecError, UnknownNameError
from hydrometer.recipes.choosing import choose, choose_option, compare_candidates
from hydrometer.runs.progress import Silent

TOKENS = 10.0


def sums_of(shares: np.ndarray, task: str = "t") -> dict[tuple[str, str], np.ndarray]:
    """Questions of ten tokens each with these means."""
    return {(task, f"{number:03d}"): np.array([TOKENS * share, TOKENS]) for number, share in enumerate(shares)}


def test_paired_candidates_differ_by_the_jackknife_of_the_difference() -> None:
    rng = np.random.default_rng(0)
    first, second = (
        {("t", f"{n}"): np.array([rng.uniform(0, c), c]) for n, c in enumerate(rng.integers(5, 40, 12).astype(float))}
        for _ in range(2)
    )
    found = compare_candidates([first, second])[1]

    def gap(without: str | None) -> float:
        kept = [key for key in first if key[1] != without]
        means = [sum(s[k][0] for k in kept) / sum(s[k][1] for k in kept) for s in (first, second)]
        return means[1] - means[0]

    copies = np.array([gap(key[1]) for key in first])
    error = np.sqrt(11 / 12 * ((copies - copies.mean()) ** 2).sum())
    reach = stats.t.ppf(0.975, 11) * error
    assert found.minus_first is not None
    assert found.gap == pytest.approx(gap(None))
    assert (found.minus_first["low"], found.minus_first["high"]) == pytest.approx(
        (gap(None) - reach, gap(None) + reach)
    )
    assert found.p == pytest.approx(2 * stats.t.sf(abs(gap(None)) / error, 11))


def test_a_common_shift_is_seen_where_questions_are_paired_and_not_where_they_are_others() -> None:
    shares = np.random.default_rng(1).uniform(0.2, 0.8, 30)
    paired = compare_candidates([sums_of(shares), sums_of(shares + 0.02)])[1]
    apart = compare_candidates([sums_of(shares), sums_of(shares + 0.02, task="another")])[1]
    assert paired.gap == pytest.approx(0.02) == apart.gap
    assert paired.is_above and not apart.is_above
    # two independent samples: variances of the two means add up (the pooled jackknife scales them by 1 - 1/60)
    error = np.sqrt(2 * shares.var(ddof=1) / 30)
    assert apart.minus_first is not None
    assert apart.minus_first["high"] - apart.gap == pytest.approx(stats.t.ppf(0.975, 29) * error, rel=0.01)


def test_holm_counts_the_candidates_and_the_largest_that_is_told_wins() -> None:
    rng = np.random.default_rng(2)
    shares = rng.uniform(0.2, 0.6, 40)
    noisy = shares + rng.normal(0.0, 0.1, 40) + 0.012
    candidates = [sums_of(shares), sums_of(shares + 0.1), sums_of(shares + 0.2), sums_of(shares - 0.1), sums_of(noisy)]
    standings = compare_candidates(candidates)
    assert choose(standings) == 2
    alone = compare_candidates([candidates[0], candidates[4]])[1]
    assert alone.p is not None and standings[4].p == pytest.approx(alone.p), "the last in Holm's order keeps its own p"
    assert choose([standings[0], standings[3]]) == 0, "told to be below"
    swapped = compare_candidates([candidates[2], candidates[0], candidates[1]])
    assert choose(swapped) == 0
    assert all(one.p is not None and one.p < 0.05 for one in swapped[1:])


def test_equal_candidates_and_few_questions_leave_the_first_one() -> None:
    same = compare_candidates([sums_of(np.full(20, 0.5))] * 2)
    assert (same[1].gap, same[1].p, choose(same)) == (0.0, 1.0, 0)
    few = compare_candidates([sums_of(np.full(4, 0.1)), sums_of(np.full(4, 0.9))])
    assert few[1].p is None and choose(few) == 0
    assert few[1].minus_first is not None and few[1].minus_first["reason"] == "fewer_than_5_questions"


def test_under_no_difference_the_first_one_is_left_as_rarely_as_promised() -> None:
    rng = np.random.default_rng(3)
    left = [
        choose(compare_candidates([sums_of(rng.beta(8, 2, 20), task=str(n)) for n in range(4)])) > 0 for _ in range(300)
    ]
    assert np.mean(left) <= 0.05  # 5 % two-sided for the family; larger by chance only half of the time


def test_candidates_are_probes_and_the_choice_is_written(tmp_path: Path) -> None:
    options = {"teacher": "bundled:expert", "questions": 8, "samples": 1, "k": 4, "max_response_tokens": 40}
    words = ["$question", ""]  # nobody was trained on the first; the second leaves the task's own
    found = choose_option(tmp_path, options, option="prompt_template", among=words, progress=Silent())
    assert found["choice"] == "" and found["chosen"] == 2
    assert found["sentence"].startswith(
        "Candidate 2 is chosen: its student overlap mass minus that of the first is +0."
    )
    assert found == read_json(tmp_path / "choice.json")
    for number, candidate in enumerate(found["candidates"], start=1):
        tokens = read_table(tmp_path / str(number) / "tokens.parquet")
        assert candidate["student_overlap_mass"]["value"] == pytest.approx(tokens["student_overlap_mass"].mean())
        told = read_json(tmp_path / str(number) / "run.json")
        assert told["prompts"]["prompt_template"] == (candidate["value"] or None)
    again = choose_option(tmp_path, options, option="prompt_template", among=words, progress=Silent())
    assert again == found


@pytest.mark.parametrize(
    ("changes", "kind", "words"),
    [
        (
            {"option": "prompt_templat"},
            UnknownNameError,
            "option to choose 'prompt_templat'. Did you mean prompt_template",
        ),
        ({"option": "seed"}, UnknownNameError, "option to choose 'seed'"),
        ({"measure": "overlap"}, UnknownNameError, "measure 'overlap'"),
        ({"among": ["$question"]}, SpecError, r"two or more candidates; found among = \['\$question'\]"),
        ({"among": "ab"}, SpecError, "found among = 'ab'"),
        ({"among": ["a $question", "", ""]}, SpecError, "candidate '' is given twice"),
    ],
)
def test_a_choice_that_cannot_be_made_is_refused_first(tmp_path: Path, changes, kind, words: str) -> None:
    given = {"option": "prompt_template", "among": ["", "$question"]} | changes
    with pytest.raises(kind, match=words):
        choose_option(tmp_path, {}, **given, progress=Silent())
    assert not any(tmp_path.iterdir())
