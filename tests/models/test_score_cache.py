"""The score cache: the same values with it and without, what is a hit and what is not, broken files, two writers."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load
from tiny_models import build_network, build_tokenizer, ids, new_model

from hydrometer.errors import SpecError
from hydrometer.models import ScoreCache, Warp, open_score_cache, score_cache, uncached
from hydrometer.models.halves import comes_apart
from hydrometer.models.transformers_model import TransformersModel

PROMPT, RESPONSE = ids("work it out"), ids("a b. c d e?|")
OTHER = ids("the other one")


def cached(folder: Path, **changes: object) -> TransformersModel:
    model = new_model(**changes)  # pyright: ignore[reportArgumentType]
    model.fingerprint = "sha256:1"
    model.score_cache = ScoreCache(folder)
    return model


def logits(model: TransformersModel, prompt: tuple[int, ...] = PROMPT, response: tuple[int, ...] = RESPONSE):
    return torch.cat([chunk.logits for chunk in model.score(prompt, response)])


def counts(model: TransformersModel) -> tuple[int, int]:
    assert model.score_cache is not None
    return model.score_cache.found_tokens, model.score_cache.made_tokens


def files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*.safetensors") if path.parent.name != "partial")


def refuse_passes(model: TransformersModel) -> None:
    """No token may be fed any more."""

    def refuse(*_: object) -> None:
        raise AssertionError("a pass was made")

    assert comes_apart(model.network)  # which is tried once
    model.network.get_input_embeddings().register_forward_pre_hook(refuse)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_warm_cache_a_cold_one_and_none_give_the_same_bits(tmp_path: Path, dtype: torch.dtype):
    def model() -> TransformersModel:
        found = cached(tmp_path)
        found.network.to(dtype)
        return found

    without = logits(model().with_cache(None))
    cold = model()
    assert torch.equal(logits(cold), without)
    assert counts(cold) == (0, len(RESPONSE))
    warm = model()
    refuse_passes(warm)
    assert torch.equal(logits(warm), without)
    assert counts(warm) == (len(RESPONSE), 0)
    (kept,) = files(tmp_path)
    assert kept.stat().st_size < len(RESPONSE) * 32 * dtype.itemsize + 400, "the states, and a header"


def test_responses_to_one_prompt_are_kept_as_they_were_passed(tmp_path: Path):
    responses = [RESPONSE, RESPONSE[:4], ids("z")]
    cold, warm = cached(tmp_path), cached(tmp_path)
    first = cold.sampled_logprobs(PROMPT, responses, Warp())
    refuse_passes(warm)
    for one, other in zip(warm.sampled_logprobs(PROMPT, responses, Warp()), first, strict=True):
        np.testing.assert_array_equal(one, other)
    assert counts(warm) == (len(RESPONSE) + 4 + 1, 0)
    lone = cached(tmp_path)
    np.testing.assert_allclose(lone.sampled_logprobs(PROMPT, responses[:1], Warp())[0], first[0], atol=1e-5)
    assert counts(lone) == (0, len(RESPONSE)), "another pass, whose rounding may differ"


def change(**what: object) -> Callable[[TransformersModel], object]:
    def apply(model: TransformersModel) -> object:
        for name, value in what.items():
            setattr(model, name, value)
        return None

    return apply


@pytest.mark.parametrize(
    "changed",
    [
        change(fingerprint="sha256:2"),
        lambda model: model.network.to(torch.bfloat16),
        lambda model: model.network.set_attn_implementation("eager"),
    ],
    ids=["weights", "dtype", "attention"],
)
def test_what_changes_the_numbers_is_a_miss(tmp_path: Path, changed: Callable[[TransformersModel], object]):
    logits(cached(tmp_path))
    model = cached(tmp_path)
    changed(model)
    expected = logits(model.with_cache(None))
    assert torch.equal(logits(model), expected)
    assert counts(model) == (0, len(RESPONSE))
    assert len(files(tmp_path)) == 2


@pytest.mark.parametrize(
    ("prompt", "response"),
    [
        (OTHER, RESPONSE),
        (PROMPT, RESPONSE[:-1]),
        (PROMPT, (*RESPONSE[:-1], RESPONSE[0])),
        ((*PROMPT, RESPONSE[0]), RESPONSE[1:]),
        (PROMPT[:-1], (PROMPT[-1], *RESPONSE)),
    ],
    ids=["prompt", "shorter", "last token", "cut later", "cut earlier"],
)
def test_other_tokens_are_a_miss_also_where_the_text_is_the_same(
    tmp_path: Path, prompt: tuple[int, ...], response: tuple[int, ...]
):
    logits(cached(tmp_path))
    model = cached(tmp_path)
    assert torch.equal(logits(model, prompt, response), logits(model.with_cache(None), prompt, response))
    assert counts(model) == (0, len(response))


def test_a_vocabulary_that_is_cut_uses_the_same_states(tmp_path: Path):
    whole = logits(cached(tmp_path))
    model = cached(tmp_path)
    model.vocab_size = 30
    assert torch.equal(logits(model), whole[:, :30])
    assert counts(model) == (len(RESPONSE), 0)


@pytest.fixture
def other_precision() -> Iterator[str]:
    before = torch.get_float32_matmul_precision()
    yield "medium" if before == "highest" else "highest"
    torch.set_float32_matmul_precision(before)


def test_precision_of_matrix_products_is_a_part_of_the_key(tmp_path: Path, other_precision: str):
    logits(cached(tmp_path))
    torch.set_float32_matmul_precision(other_precision)
    model = cached(tmp_path)
    logits(model)
    assert counts(model) == (0, len(RESPONSE))


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-3] ^= 1
    path.write_bytes(bytes(data))


def replace_by_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def exchange(path: Path) -> None:
    """A whole file of the cache in another one's place."""
    model = cached(path.parent.parent)
    logits(model, OTHER, RESPONSE)
    (other,) = [one for one in files(path.parent.parent) if one != path]
    path.write_bytes(other.read_bytes())


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.write_bytes(path.read_bytes()[:-5]),
        lambda path: path.write_bytes(path.read_bytes()[:20]),
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(b"not ours" * 100),
        flip,
        replace_by_pipe,
        exchange,
    ],
    ids=["truncated", "header cut", "empty", "foreign", "bit flipped", "pipe", "another entry"],
)
def test_a_damaged_file_is_made_anew_and_told(tmp_path: Path, damage: Callable[[Path], object]):
    expected = logits(cached(tmp_path))
    (path,) = files(tmp_path)
    whole = load(path.read_bytes())["states"]
    damage(path)
    model = cached(tmp_path)
    assert torch.equal(logits(model), expected)
    assert counts(model) == (0, len(RESPONSE))
    assert model.score_cache is not None
    (told,) = model.score_cache.describe_trouble()
    assert "1 files" in told and path.name in told
    assert torch.equal(load(path.read_bytes())["states"], whole)
    again = cached(tmp_path)
    logits(again)
    assert counts(again) == (len(RESPONSE), 0)


WRITER = """
import sys
from pathlib import Path
import torch
sys.path.insert(0, {tests!r})
from tiny_models import ids, new_model
from hydrometer.models import ScoreCache

torch.set_num_threads(1)
model = new_model()
model.fingerprint = "sha256:1"
model.score_cache = ScoreCache(Path({folder!r}))
for turn in range(3):
    for number in range(40):
        list(model.score(ids("work it out"), ids("a b. c d e?|")[: 1 + number % 12] + (number // 12,)))
assert not model.score_cache.describe_trouble(), model.score_cache.describe_trouble()
print(model.score_cache.found_tokens + model.score_cache.made_tokens)
"""


def start_writer(folder: Path) -> "subprocess.Popen[str]":
    script = WRITER.format(tests=str(Path(__file__).parents[1]), folder=str(folder))
    return subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)


def test_two_processes_write_the_same_entries_at_once(tmp_path: Path):
    writers = [start_writer(tmp_path), start_writer(tmp_path)]
    asked = [int(writer.communicate(timeout=120)[0]) for writer in writers]
    assert [writer.returncode for writer in writers] == [0, 0]
    assert asked[0] == asked[1] > 0
    assert len(files(tmp_path)) == 40
    assert not list((tmp_path / "partial").iterdir())
    model = cached(tmp_path)
    model.network.load_state_dict(new_model().network.state_dict())
    for number in range(40):
        response = (*RESPONSE[: 1 + number % 12], number // 12)
        assert torch.equal(logits(model, PROMPT, response), logits(model.with_cache(None), PROMPT, response))
    assert counts(model)[1] == 0


def test_a_killed_writer_leaves_whole_files_only(tmp_path: Path):
    writer = start_writer(tmp_path)
    limit = time.monotonic() + 60
    while not files(tmp_path) and time.monotonic() < limit:
        time.sleep(0.002)
    writer.kill()
    writer.communicate()
    kept = files(tmp_path)
    assert kept
    model = cached(tmp_path)
    for number in range(40):
        logits(model, PROMPT, (*RESPONSE[: 1 + number % 12], number // 12))
    assert model.score_cache is not None and not model.score_cache.damaged
    assert set(kept) <= set(files(tmp_path))


def test_what_a_dead_writer_left_is_removed_and_a_living_ones_is_not(tmp_path: Path):
    ScoreCache(tmp_path)
    old, new = tmp_path / "partial" / "old.safetensors", tmp_path / "partial" / "new.safetensors"
    for path in (old, new):
        path.write_bytes(b"half")
    os.utime(old, (time.time() - 2 * score_cache._ABANDONED_S,) * 2)
    ScoreCache(tmp_path)
    assert [path.name for path in (tmp_path / "partial").iterdir()] == ["new.safetensors"]


def test_a_disk_that_refuses_costs_the_cache_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def refuse(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    model = cached(tmp_path)
    monkeypatch.setattr(score_cache, "save_file", refuse)
    assert torch.equal(logits(model), logits(model.with_cache(None)))
    logits(model, OTHER)
    assert model.score_cache is not None
    (told,) = model.score_cache.describe_trouble()
    assert "No space left" in told
    assert not files(tmp_path) and not list((tmp_path / "partial").iterdir())


def test_a_file_in_the_place_of_the_folder_is_refused_and_no_folder_is_no_cache(tmp_path: Path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(SpecError, match=r"--score-cache .*file is a file"):
        open_score_cache(str(tmp_path / "file"))
    assert open_score_cache(None) is None


def test_an_uncached_model_makes_its_own_passes(tmp_path: Path):
    model = cached(tmp_path)
    logits(model)
    own = uncached(model)
    assert isinstance(own, TransformersModel) and own.network is model.network
    refuse_passes(model)
    with pytest.raises(AssertionError, match="a pass was made"):
        logits(own)
    assert own is not model and torch.isfinite(logits(model)).all()


def test_weights_are_loaded_once_for_each_spec(tmp_path: Path):
    from hydrometer.models.prompting import PromptFormat
    from hydrometer.runs.loader import Loader
    from hydrometer.runs.options import MachineOptions

    folder = tmp_path / "model"
    build_network().save_pretrained(folder)
    build_tokenizer().save_pretrained(folder)
    cache = ScoreCache(tmp_path / "cache")
    loader = Loader(MachineOptions(), cache)
    plain = loader.load(str(folder), PromptFormat())
    other = loader.load(str(folder), PromptFormat(chat_template="{{ messages[0]['content'] }}"))
    assert loader.load(str(folder), PromptFormat()) is plain is not other
    assert other.network is plain.network
    assert other.score_cache is plain.score_cache is cache
    assert other.chat_template != plain.chat_template
