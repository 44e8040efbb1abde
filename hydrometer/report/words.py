"""The names and sentences of the report: metrics, reasons for a missing value, and what every quantity means."""

from typing import NamedTuple


class Metric(NamedTuple):
    """One aggregate of an arm."""

    key: str
    label: str
    unit: str
    """`cosine`, `share` or `rate`: how its numbers are printed."""
    note: str
    attenuated: bool = False
    """True where noise pulls the value towards no effect, so that it only means something at its number of visits."""


METRICS: tuple[Metric, ...] = (
    Metric("pooled_cosine", "Pooled cosine", "cosine", "noise-corrected; the ranking score"),
    Metric("mean_cosine", "Mean cosine", "cosine", "attenuated by noise", attenuated=True),
    Metric("weighted_cosine", "Weighted cosine", "cosine", "by success gap; attenuated", attenuated=True),
    Metric("fraction_positive", "Fraction positive", "share", "attenuated by noise", attenuated=True),
    Metric("mean_advantage", "Mean advantage", "rate", "success rate"),
    Metric("mean_signal", "Mean signal", "rate", "success rate per unit step"),
)
RANKING_METRIC = METRICS[0]

_REASONS = {
    "noise": "the measured differences in success are no larger than their sampling noise",
    "no_direction": "the objective asks this teacher for no change here: its direction is (nearly) zero",
    "no_nodes": "no node could be measured",
    "no_unit": "the arms have an order, but noise leaves no length of the ideal direction to measure them in",
    "no_shared_nodes": "no node was scored for all ranked arms",
    "no_eligible_nodes": "no node has two well-visited candidates that differ in success",
    "equal_success_rates": "all kept candidates have the same success rate",
    "fewer_than_two_kept": "fewer than two candidates are likely enough and were visited often enough",
    "fewer_than_5_questions": "fewer than 5 questions",
    "undefined_without_one_question": "undefined when one question is left out",
    "undefined_in_one_split": "undefined on correct or on incorrect responses",
    "no_question_with_a_difference": "no question shows a difference",
    "no_visit_log": "single rollouts were not at hand",
    "not_computed": "it was not computed",
    "no_value": "there is no value",
    "no_variation": "one of the two does not vary",
    "no_variation_between_questions": "all questions say the same",
    "no_baseline": "it is the baseline",
    "no_shared_question": "no question has rollouts of both",
    "nothing_kept": "nothing would be kept",
    "nothing_proposed": "no node would be chosen",
    "no_noise": "there is no noise",
    "no_question_with_two_scored_rollouts": "no question has two scored responses",
    "no_question_with_both_outcomes": "no question has correct and incorrect scored responses",
    "no_reward_to_go": "needs rewards to go (--objective minillm)",
    "no_complete_group": "no group of this size is complete",
}


def reason_in_words(reason: str | None) -> str:
    """A clause for a reason code; a code without one is spelled out, so that nothing is hidden."""
    if not reason:
        return "no reason was recorded"
    return _REASONS.get(reason, reason.replace("_", " "))


class Quantity(NamedTuple):
    """One line of the legend."""

    name: str
    formula: str
    sentence: str


QUANTITIES: tuple[Quantity, ...] = (
    Quantity(
        "Arm",
        "teacher × objective",
        "What is ranked: one teacher, with what it sees, followed by one distillation objective; “no teacher”, which "
        "leaves the student as it is, is one too and has the score 0.",
    ),
    Quantity(
        "Node",
        "prompt + first t response tokens",
        "A prefix of an analysed response; the token drawn at position t is coloured by what is known about the "
        "choice there.",
    ),
    Quantity(
        "Candidate, kept",
        "p or any q > candidate_threshold; visits ≥ min_visits",
        "A next token that student or a teacher finds likely; it is kept when enough rollouts went through it to "
        "estimate its success rate. All sums below run over the kept candidates of a node.",
    ),
    Quantity(
        "Success rate",
        "S = successes / visits",
        "The share of correct answers among the student's own continuations through that token; the analysed response "
        "itself is never counted.",
    ),
    Quantity(
        "Ideal direction",
        "g_j = M w_j (S_j − Σ_k w_k S_k)",
        "The change of the student's logits that most raises its success rate at this node; w is the student's "
        "probability p renormalised over the kept candidates, M their total p.",
    ),
    Quantity(
        "Objective direction",
        "d_j = M w_j (f_j − Σ_k w_k f_k)",
        "The change the distillation objective asks for with this teacher, positive = the token goes up; f is the "
        "objective's field, for reverse KL f = log q − log p.",
    ),
    Quantity(
        "Cosine",
        "cos(g, d)",
        "Do the two point the same way: +1 helps, 0 is unrelated, −1 harms; at two kept candidates it can only be ±1.",
    ),
    Quantity(
        "Signal",
        "g·d / |d|",
        "How much success a unit step along the teacher's direction would gain here, to first order.",
    ),
    Quantity(
        "Advantage",
        "Σ_k q̃_k S_k − Σ_k w_k S_k",
        "What would be won in success rate if the next token were drawn from the teacher (q̃: q renormalised over "
        "kept) instead of the student, and the student continued.",
    ),
    Quantity(
        "Pooled cosine",
        "Σ g·d / √((Σ|g|² − noise) · Σ|d|²)",
        "One cosine over all measured nodes together, so that nodes where more is at stake weigh more; the sampling "
        "noise of the success rates is taken out of |g|². It is the score of the ranking.",
    ),
    Quantity(
        "Adds up to",
        "m Σ(q − p)·S − (1 − m) V",
        "What the teacher's choices along a response add up to in success rate: the sum over measured nodes, and the "
        "share 1 − m of |q − p| that lies where the student is sure counted as harm (V: the student's success rate, "
        "all there is to lose). Not above 0: the arm is not recommended. Interval below 0: it ranks below no teacher.",
    ),
    Quantity(
        "Mean cosine, fraction positive",
        "mean of cos, share of cos > 0",
        "Averages over eligible nodes (two or more kept candidates with unequal success rates); noise pulls both "
        "towards no effect.",
    ),
    Quantity(
        "Weighted cosine",
        "Σ gap · cos / Σ gap",
        "Mean cosine weighted by the success gap (largest minus smallest S); the gap comes from one half of the "
        "rollouts and the cosine from the other.",
    ),
    Quantity(
        "Measured share",
        "Σ|d|² on measured nodes / Σ|d|² on all",
        "The part of the teacher's total push that falls on nodes where success was measured; what it does elsewhere "
        "is not in any score.",
    ),
    Quantity(
        "Reverse KL",
        "KL(student ‖ teacher) = Σ p log(p / q)",
        "How far the teacher's next-token distribution is from the student's, in nats; far is not the same as helpful.",
    ),
    Quantity(
        "Interval: questions",
        "95 %, delete-one-question jackknife",
        "What to expect on other questions of the same kind; not given below 5 questions.",
    ),
    Quantity(
        "Interval: these questions",
        "95 %, rollouts resampled within questions",
        "Only the sampling noise on exactly these questions; it says nothing about others.",
    ),
)

LIMIT = (
    "What no score here says: success rates come from the student's own continuations, so scores are first-order at "
    "today's student. A teacher whose advice pays off only once the student has changed (one that repairs "
    "what the student cannot yet repair) is undervalued, and a teacher that destroys the student later can look "
    "harmless now. Logit directions are also not the optimiser's step. Treat a score as a reason to try an arm "
    "first, not as the result of training with it."
)
OTHER_CONTINUATION = (
    "Arms marked “continued by …” use success rates from that model's continuations: they look ahead to what "
    "becomes possible once the student acts like it, and are not comparable with the others number by number."
)

KEYS: tuple[tuple[str, str], ...] = (
    ("←  →", "move between tokens (Home, End: the first, the last)"),
    ("h", "the most harmful token; again: the next one"),
    ("g", "the most helpful token; again: the next one"),
    ("u", "the most uncertain token; again: the next one"),
    ("n  p", "next, previous question"),
    ("r", "next response of the question"),
    ("t  T", "next, previous teacher"),
    ("c", "compare with the next teacher"),
    ("o", "next objective"),
    ("m", "colour by the next metric"),
    ("/", "find a question"),
    ("?", "this list"),
)
"""What assets/start.js listens to."""
