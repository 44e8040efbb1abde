"""`hydrometer check`, and that `diagnose` finds the same mistakes before it pays for a rollout."""

import json
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from bigram_checkpoint import GOOD, TOKENS, write_checkpoint
from tiny_runs import TINY, Command

from hydrometer.models import FAMILY, transformers_model
from hydrometer.models.causal import LogitsChunk
from hydrometer.sampling import Continuation, transformers_sampler
from hydrometer.sampling.drawing import draw_tokens

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def swap_template(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copied = shutil.copytree(workplace / "good", workplace / "copied")
    (copied / "chat_template.jinja").write_text(CHATML)
    (workplace / "good").unlink()
    copied.rename(workplace / "good")


def shift_logits(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    score = transformers_model.TransformersModel.score

    def shifted(self, prompt_ids, response_ids):
        rows = torch.cat([chunk.logits for chunk in score(self, prompt_ids, response_ids)])
        yield LogitsChunk(0, torch.cat([rows[1:], rows[-1:]]))

    monkeypatch.setattr(transformers_model.TransformersModel, "score", shifted)


def other_tokenizer(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (workplace / "good").unlink()
    a, b = TOKENS.index("a"), TOKENS.index("b")
    swapped = tuple({a: "b", b: "a"}.get(i, token) for i, token in enumerate(TOKENS))
    write_checkpoint(workplace / "good", GOOD, tokens=swapped)


def drop_ends(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = transformers_sampler._Batch._continuations

    def without_padding(self):
        pad = next(iter(self.model.eos_ids))  # pad == eos
        kept = []
        for drawn in whole(self):
            ids = tuple(i for i in drawn.token_ids if i != pad)
            kept.append(Continuation(ids, drawn.logprobs[: len(ids)], drawn.ended))
        return kept

    monkeypatch.setattr(transformers_sampler._Batch, "_continuations", without_padding)


def hidden_top_k(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def cut(logits: torch.Tensor, *rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return draw_tokens(logits.masked_fill(logits < logits.topk(2).values[:, -1:], -torch.inf), *rows)

    monkeypatch.setattr(transformers_sampler, "draw_tokens", cut)


MISTAKES = {
    "end of turn (good)": swap_template,
    "shift (good)": shift_logits,
    "token map (good)": other_tokenizer,
    "sampled end (student)": drop_ends,
    "sampler against scorer (student)": hidden_top_k,
}
Mistake = Callable[[Path, pytest.MonkeyPatch], None]


@pytest.mark.parametrize(("named", "make"), MISTAKES.items(), ids=[make.__name__ for make in MISTAKES.values()])
def test_a_mistake_is_red_in_check_and_stops_diagnose_before_a_rollout(
    workplace: Path, run: Command, monkeypatch: pytest.MonkeyPatch, named: str, make: Mistake
) -> None:
    make(workplace, monkeypatch)
    check, _, model = named.rstrip(")").partition(" (")
    said = run(["check", "student", "good=good", "--task", "jsonl:questions.jsonl", "--json"])
    assert said.code == 2
    found = json.loads(said.out)
    assert found["ok"] is False
    red = [(f["check"], f["model"]) for f in found["findings"] if f["level"] == "red"]
    assert (check, model) in red
    assert all(f["cure"] and f["consequence"] for f in found["findings"] if f["level"] == "red")
    said = run(["diagnose", *TINY, "--out", "out"])
    assert said.code == 2
    assert named in said.err or "another meaning than the student" in said.err
    assert not (workplace / "out").exists()


def test_without_a_mistake_the_table_is_green_and_words_do_not_need_colour(workplace: Path, run: Command) -> None:
    said = run(["check", "student", "good=good", "--prompt", "a"])
    assert said.code == 0
    assert said.err == ""
    assert "0 red, from 16 probe responses" in said.out
    levels = [line.split()[0] for line in said.out.splitlines()[:-1] if line[:1].strip()]
    assert levels.count("green") > 20
    assert set(levels) <= {"green", "note"}
    quiet = run(["check", "student", "good=good", "--prompt", "a", "--quiet"])
    assert "green  " not in quiet.out
    assert len(quiet.out) < len(said.out)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["student", "self+answer"], "'+answer' is a context"),
        (["student", "good=good", "good=student"], "Two models are called 'good'"),
        (["student", "bundled:exprt"], "Did you mean expert"),
        (["self"], "the student has to be a model"),
        (["student", "--temperature", "0"], "'temperature' is '0': input should be greater than 0"),
        (["student", "--probe-tokens", "0"], "'probe_tokens' is '0': input should be greater than or equal to 1"),
        (["student", "--prompt", " "], "--prompt is empty"),
        (["student", "--prompt", "a", "--task", "boolq"], "give one of them"),
        (["student", "--objective", "dr_grpo"], "'dr_grpo' is not made from a teacher"),
        ([], "student"),
    ],
)
def test_what_cannot_be_checked_is_told(workplace: Path, run: Command, arguments: list[str], words: str) -> None:
    said = run(["check", *arguments])
    assert said.code == 2
    assert words.lower() in said.err.lower()
    assert said.out == ""


def test_diagnose_records_the_check_and_can_go_without(
    workplace: Path, run: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = run(["diagnose", *TINY, "--out", "checked"])
    assert said.code == 0
    assert "Check of models and sampler" in said.err
    entry = json.loads((workplace / "checked" / "run.json").read_text())
    assert entry["preflight"]["ok"] is True
    assert entry["preflight"]["cost"]["rollouts"] == 16
    assert run(["diagnose", *TINY, "--out", "unchecked", "--no-check"]).code == 0
    other = json.loads((workplace / "unchecked" / "run.json").read_text())
    assert other["preflight"] is None
    assert other["cost"]["rollouts"] == entry["cost"]["rollouts"], "probe samples are part of no count"
    for name in ("rollouts", "candidates", "alignment"):
        pair = [(workplace / folder / f"{name}.parquet").read_bytes() for folder in ("checked", "unchecked")]
        assert pair[0] == pair[1]
    drop_ends(workplace, monkeypatch)
    said = run(["diagnose", *TINY, "--out", "checked", "--resume"])
    assert said.code == 0, "a finished run asks its models nothing, so there is nothing to check"
    assert json.loads((workplace / "checked" / "run.json").read_text())["preflight"] == entry["preflight"]


def test_the_bundled_family_is_all_green(run: Command) -> None:
    others = [f"{name}=bundled:{name}" for name in FAMILY if name != "student"]
    began = time.process_time()
    said = run(["check", "bundled:student", *others, "--json"])
    assert said.code == 0
    assert json.loads(said.out)["counts"]["note"] == 0
    assert time.process_time() - began < 15.0


@pytest.mark.parametrize("flags", [["--temperature", "0.7"], ["--top-p", "0.9"], ["--dtype", "bfloat16"]])
def test_other_samplings_of_the_bundled_student_are_not_red(run: Command, flags: list[str]) -> None:
    said = run(["check", "bundled:student", "bundled:expert", "--json", *flags])
    assert said.code == 0
    notes = {f["check"] for f in json.loads(said.out)["findings"] if f["level"] == "note"}
    assert ("dtype" in notes) == ("bfloat16" in flags)


@pytest.mark.real_model
def test_a_real_model_has_no_red_line(run: Command) -> None:
    folder = Path(os.environ["HYDROMETER_MODELS"]) / "smollm2-135m"
    said = run(["check", str(folder), "self", "--json"])
    assert said.code == 0
    found = json.loads(said.out)
    assert "padding" in {f["check"] for f in found["findings"] if f["level"] == "note"}
