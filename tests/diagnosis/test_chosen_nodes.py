"""A limit on analysed nodes: spread over the response, blind to outcomes, unbiased by its weights."""

import subprocess
import sys
import textwrap

import numpy as np
import pytest
from scripted_worlds import LetterTask, build_planted, build_student

import hydrometer
from hydrometer.diagnosis.chosen_nodes import choose_nodes
from hydrometer.sampling import ScriptedModel
from hydrometer.teachers import PathScores
from hydrometer.types import Grades, Message, Question, Score

LONG = 4096


def scores_with(branching: list[int], length: int) -> PathScores:
    """A path with two candidates at some positions, one of p = 0 beside a sampled one elsewhere."""
    positions, logprobs = [], []
    for position in range(length):
        positions += [position, position]
        logprobs += [-0.7, -0.7] if position in branching else [0.0, np.nan]
    per_position = {
        name: np.zeros(shape)
        for name, shape in {
            "entropy": (length,),
            "sampled_logprob": (length,),
            "field_mean": (1, 1, length),
            "full_norm_squared": (1, 1, length),
            "reverse_kl": (1, length),
            "l2": (1, length),
            "distribution_cosine": (1, length),
            "total_variation": (1, length),
            "teacher_entropy": (1, length),
            "overlap_ratio": (1, length),
            "student_overlap_mass": (1, length),
            "teacher_overlap_mass": (1, length),
            "student_topk_mass": (1, 1, length),
            "teacher_topk_mass": (1, 1, length),
        }.items()
    }
    count = len(positions)
    return PathScores(
        position=np.array(positions),
        token_id=np.arange(count),
        student_logprob=np.array(logprobs),
        student_rank=np.ones(count, dtype=np.int64),
        teacher_logprob=np.zeros((1, count)),
        teacher_rank=np.ones((1, count), dtype=np.int64),
        field=np.zeros((1, 1, count)),
        **per_position,
    )


def test_no_limit_keeps_everything_with_weight_one() -> None:
    scores = scores_with([1, 3], 5)
    for limit in (None, 2, 7):
        kept, weights = choose_nodes(scores, limit, np.random.default_rng(0))
        assert kept is scores
        assert weights.tolist() == [1.0] * 5


def test_every_branching_node_weighs_one_on_average_and_no_other_is_chosen() -> None:
    branching = [2, 3, 5, 11, 12, 13, 20, 28, 29, 33, 39]
    scores = scores_with(branching, 40)
    drawn = np.array([choose_nodes(scores, 4, np.random.default_rng(seed))[1] for seed in range(1000)])
    others = np.setdiff1d(np.arange(40), branching)
    assert not drawn[:, others].any()
    assert ((drawn > 0).sum(1) == 4).all()
    np.testing.assert_allclose(drawn.sum(1), len(branching))
    # a weight is 11/4 with probability 4/11: standard error sqrt(7/4 / 1000) = 0.042
    np.testing.assert_allclose(drawn[:, branching].mean(0), 1.0, atol=0.2)


def test_the_choice_reaches_both_ends_and_drops_the_candidates_of_all_other_nodes() -> None:
    branching = list(range(0, 400, 4))
    for seed in range(50):
        kept, weights = choose_nodes(scores_with(branching, 400), 8, np.random.default_rng(seed))
        chosen = np.flatnonzero(weights)
        assert chosen[0] <= 48
        assert chosen[-1] >= 348
        assert np.unique(kept.position).tolist() == chosen.tolist()
        assert kept.teacher_logprob.shape == (1, 16)
        assert len(kept.entropy) == 400


def test_a_limited_run_agrees_with_the_full_one_at_the_nodes_it_shares(tmp_path) -> None:
    options = {"questions": 6, "rollouts": 40, "visits": 40, "min_visits": 10, "objective": ["reverse_kl"]}
    runs = [
        hydrometer.diagnose(
            out=tmp_path / str(limit),
            student=build_student(),
            teacher={"good": build_planted(2.0)},
            task=LetterTask(),
            nodes_per_path=limit,
            **options,
        )
        for limit in (None, 2)
    ]
    full, limited = (run.table("nodes") for run in runs)
    assert limited.height == full.height
    left_out = limited.filter(reason="not_chosen")
    assert left_out["node_weight"].unique().to_list() == [0.0]
    assert left_out.height > 0
    chosen = limited.filter(limited["node_weight"] > 0)
    assert chosen.group_by("question_id", "rollout_id").len()["len"].max() == 2
    assert runs[1].table("alignment").height == chosen.filter(chosen["kept_candidates"] >= 2).height
    assert runs[1].summary["cost"]["rollouts"] < runs[0].summary["cost"]["rollouts"]
    share = {run.summary["arms"][0]["measured_share"] for run in runs}
    assert all(0 < value <= 1 for value in share)


class LongTask:
    """One question whose answer is right where more than half of the choices were b."""

    name = "long"

    def questions(self, split):
        return [Question(f"q{i}", "long", (Message("user", f"question {i}"),), "b") for i in range(6)]

    def verify(self, question, response):
        correct = response.count("b") >= response.count("a")
        return Grades.same(Score(float(correct), correct, True))


def build_walker(share: float) -> ScriptedModel:
    """Says a or b at every 256th position (b with probability `share`), filler between, the end at the limit."""

    def probs(prompt, response):
        if len(response) == LONG - 1:
            return np.array([0.0, 0.0, 0.0, 1.0])
        return np.array([1 - share, share, 0.0, 0.0] if len(response) % 256 == 0 else [0.0, 0.0, 1.0, 0.0])

    return ScriptedModel(("a", "b", ".", "<eos>"), probs, name=f"walker {share}")


def test_windows_reach_the_end_of_a_response_of_4096_tokens(tmp_path) -> None:
    run = hydrometer.diagnose(
        out=tmp_path / "run",
        student=build_walker(0.5),
        teacher={"prefers-b": build_walker(0.9)},
        task=LongTask(),
        objective=["reverse_kl"],
        questions=1,
        rollouts=4,
        demos=0,
        visits=3,
        min_visits=3,
        nodes_per_path=8,
        allocation="windowed",
        max_response_tokens=LONG,
    )
    path = run.table("rollouts").filter(kind="path")
    assert path["token_ids"].list.len().to_list() == [LONG]
    assert not path["truncated"][0]
    nodes = run.table("nodes").filter(run.table("nodes")["node_weight"] > 0)
    assert nodes.height == 8
    assert nodes["node_weight"].to_list() == [2.0] * 8
    assert nodes["position"].max() >= 3584
    assert nodes["kept_candidates"].to_list() == [2] * 8
    deepest = run.table("candidates").filter(position=nodes["position"].max())
    assert deepest["visits"].min() >= 3


@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak memory of a process from Linux")
def test_scoring_a_long_response_needs_memory_for_blocks_only() -> None:
    """Student and teacher logits of 4,096 positions would take 2 x 268 MB in float64; blocks take 16 MiB an array."""
    program = """
        import resource
        import numpy as np, torch
        from hydrometer import objectives
        from hydrometer.models import Warp
        from hydrometer.models.causal import LogitsChunk
        from hydrometer.sampling import ScriptedModel
        from hydrometer.teachers import TeacherView, score_paths

        torch.set_num_threads(1)
        VOCAB, LENGTH = 8192, 4096

        class Wide(ScriptedModel):
            def score(self, prompt_ids, response_ids):
                made = torch.Generator().manual_seed(len(self.spec))
                for start in range(0, len(response_ids), 64):
                    yield LogitsChunk(start, 3 * torch.randn(64, VOCAB, generator=made))

        tokens = [str(i) for i in range(VOCAB - 1)] + ["<eos>"]
        student, teacher = Wide(tokens, None, name="s"), Wide(tokens, None, name="teacher")
        made = [objectives.parse("reverse_kl")]

        def peak(length):
            views = [TeacherView("t", teacher, (1,))]
            [found] = score_paths(student, (1,), views, [[5] * length], made, warp=Warp(), threshold=0.02)
            assert found.entropy.shape == (length,) and np.isfinite(found.entropy).all()
            return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

        short = peak(512)
        print(peak(LENGTH) - short)
    """
    ran = subprocess.run([sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, check=True)
    assert float(ran.stdout) < 60  # MB more than a response of 512 tokens took
