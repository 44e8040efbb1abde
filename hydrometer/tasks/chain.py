"""`bundled:chain`: arithmetic chains solved in written steps, and their verifier.

A question is a start value and 2-5 steps (`+` or `-` with one digit, `*` with 2 to 5), worked from left to right
modulo 100:

    47+8-3*2  ->  55, 52, 04

`bundled:chain` allows a step to be checked in writing and repaired; `bundled:chain-strict` asks for the bare steps, so
that an error can never be mended. Both have the same questions, and the last line of a response, `answer 04`, decides.

    >>> ChainTask().questions("diagnose")[0].prompt[0].content
"""

import hashlib
import random
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from itertools import cycle
from typing import Literal, NamedTuple

from hydrometer.types import Grades, Message, Question, Score

Split = Literal["train", "diagnose", "test"]
Operator = Literal["+", "-", "*"]

MODULUS = 100
OPERANDS = tuple(range(2, 10))
FACTORS = (2, 3, 4, 5)
"""Operands that may be multiplied by."""
FACTOR_SHARE = 0.6
"""Probability that one of them is."""
STEP_COUNTS = (3, 2, 5, 4)
"""Numbers of steps, in the order in which a split repeats them."""
SPLIT_SIZES: dict[Split, int] = {"train": 4000, "diagnose": 400, "test": 400}

PLAIN_PROMPT = "Work out {chain} from left to right, two digits a step."
STRICT_PROMPT = "Write only the bare steps of {chain} from left to right."
SECOND_PROMPT = "Follow the chain {chain} and give its last value."
"""Another wording of the plain question; of the bundled models only `expert` was trained on it."""

CHECK_RULE = "Check every step."
NO_CHECK_RULE = "Check no step."
"""The two rules that the bundled models know (as `rule:TEXT` contexts)."""


class Step(NamedTuple):
    """One operation on the running value."""

    operator: Operator
    operand: int

    def apply(self, value: int) -> int:
        """The next running value, modulo 100."""
        match self.operator:
            case "+":
                result = value + self.operand
            case "-":
                result = value - self.operand
            case "*":
                result = value * self.operand
        return result % MODULUS

    def __str__(self) -> str:
        return f"{self.operator}{self.operand}"


@dataclass(frozen=True)
class Chain:
    """A start value and its steps."""

    start: int
    steps: tuple[Step, ...]

    def __str__(self) -> str:
        return f"{self.start:02d}{''.join(map(str, self.steps))}"

    @cached_property
    def values(self) -> tuple[int, ...]:
        """The running value after each step."""
        values = [self.start]
        for step in self.steps:
            values.append(step.apply(values[-1]))
        return tuple(values[1:])

    @property
    def answer(self) -> int:
        """The value after the last step."""
        return self.values[-1]

    @property
    def split(self) -> Split:
        """Where this chain belongs, decided by a hash of its text alone: a tenth each for diagnose and test."""
        bucket = hashlib.sha256(str(self).encode()).digest()[0] % 10
        return "diagnose" if bucket == 0 else "test" if bucket == 1 else "train"

    @property
    def solution(self) -> str:
        """The bare steps and the answer line."""
        lines = [f"{step}={value:02d}\n" for step, value in zip(self.steps, self.values, strict=True)]
        return f"{''.join(lines)}answer {self.answer:02d}"


def sample_chain(rng: random.Random, n_steps: int, *, split: Split) -> Chain:
    """A random chain of a split; no operand occurs twice, so a step is named by its operand."""
    while True:
        operands = rng.sample(OPERANDS, n_steps)
        steps = tuple(Step(_sample_operator(rng, operand), operand) for operand in operands)
        chain = Chain(rng.randrange(10, MODULUS), steps)
        if chain.split == split:
            return chain


def _sample_operator(rng: random.Random, operand: int) -> Operator:
    if operand in FACTORS and rng.random() < FACTOR_SHARE:
        return "*"
    return "+" if rng.random() < 0.5 else "-"


def sample_error(rng: random.Random, value: int) -> int:
    """A value that a slip could give instead of `value`: a carry forgotten, a digit off, or anything else."""
    while True:
        kind = rng.random()
        if kind < 0.5:
            wrong = value + rng.choice((-10, 10))
        elif kind < 0.75:
            wrong = value + rng.choice((-2, -1, 1, 2))
        else:
            wrong = rng.randrange(MODULUS)
        if wrong % MODULUS != value:
            return wrong % MODULUS


_ANSWER = re.compile(r"answer ([0-9]{1,2})\.?")
_ANSWER_ANYWHERE = re.compile(r"\banswer(?: is|:| =)?\s{0,3}([0-9]{1,2})(?![0-9])", re.IGNORECASE)


def parse_answer(response: str) -> int | None:
    """The value on the last line, which has to be `answer NN`; None where it is anything else."""
    lines = response.rstrip().splitlines()
    found = _ANSWER.fullmatch(lines[-1].strip()) if lines else None
    return int(found[1]) if found else None


def _find_answer(response: str) -> int | None:
    found = _ANSWER_ANYWHERE.findall(response)
    return int(found[-1]) if found else None


def _score(answer: int | None, question: Question) -> Score:
    correct = answer is not None and answer == int(question.answer)
    return Score(value=float(correct), correct=correct, parsed=answer is not None)


@cache
def _chains(split: Split) -> tuple[Chain, ...]:
    rng = random.Random(f"bundled:chain {split}")
    counts = cycle(STEP_COUNTS)
    chains: dict[Chain, None] = {}
    while len(chains) < SPLIT_SIZES[split]:
        n_steps = next(counts)
        # A repeated chain is drawn again with the same length, so that the fixed order of lengths holds.
        while (chain := sample_chain(rng, n_steps, split=split)) in chains:
            pass
        chains[chain] = None
    return tuple(chains)


@dataclass(frozen=True)
class ChainTask:
    """The bundled task; `strict` asks for the bare steps, which leaves no way to notice or mend an error."""

    strict: bool = False

    @property
    def name(self) -> str:
        """`bundled:chain` or `bundled:chain-strict`."""
        return "bundled:chain-strict" if self.strict else "bundled:chain"

    def questions(self, split: Split) -> Sequence[Question]:
        """All questions of a split; every four consecutive ones have 3, 2, 5 and 4 steps."""
        template = STRICT_PROMPT if self.strict else PLAIN_PROMPT
        return [self._question(f"{split}-{index:04d}", chain, template) for index, chain in enumerate(_chains(split))]

    def _question(self, question_id: str, chain: Chain, template: str) -> Question:
        wrong = sample_error(random.Random(f"wrong {chain}"), chain.answer)
        return Question(
            question_id=question_id,
            task=self.name,
            prompt=(Message("user", template.format(chain=chain)),),
            answer=f"{chain.answer:02d}",
            solution=chain.solution,
            wrong_answer=f"{wrong:02d}",
            problem=str(chain),
        )

    def verify(self, question: Question, response: str) -> Grades:
        """Right where the last line is `answer NN` with the right value; how the steps are written does not matter.

        Relaxed: where the last line is anything else, the last `answer NN` (any case, `answer: NN`, `answer is NN`).
        """
        strict = parse_answer(response)
        relaxed = _find_answer(response) if strict is None else strict
        return Grades(_score(strict, question), _score(relaxed, question))
