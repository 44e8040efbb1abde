"""Fingerprints of models that show none of their files, and specs that name them."""

import pytest

from hydrometer.artifacts.model_identity import is_same_model, served_fingerprint
from hydrometer.errors import SpecError
from hydrometer.models import parse_model_spec
from hydrometer.models.vllm.abilities import measure_identity
from hydrometer.models.vllm.engine import EngineAnswer, EngineRequest

NUMBERS = (-10.0, -9.5, -11.25)


def test_rounding_leaves_a_model_what_it_is_and_training_does_not():
    one = served_fingerprint("hash", NUMBERS)
    assert one == "vllm:hash:-10.000,-9.500,-11.250"
    assert is_same_model(one, served_fingerprint("hash", (-10.1, -9.4, -11.25)))
    assert not is_same_model(one, served_fingerprint("hash", (-10.0, -9.5, -11.41)))
    assert not is_same_model(one, served_fingerprint("other", NUMBERS))
    assert not is_same_model(one, served_fingerprint("hash", NUMBERS[:2]))


def test_hashes_of_files_have_to_be_equal():
    assert is_same_model("sha256:ab", "sha256:ab")
    assert not is_same_model("sha256:ab", "sha256:ac")
    assert not is_same_model("sha256:ab", served_fingerprint("hash", NUMBERS))
    assert not is_same_model(None, "sha256:ab")


def test_the_fixed_text_is_read_in_means_of_its_parts():
    def ask(request: EngineRequest) -> EngineAnswer:
        assert request.reads_prompt
        assert len(set(request.prompt_ids)) > 30
        scored = tuple(-float(number) for number in range(1, len(request.prompt_ids)))
        return EngineAnswer((0,), (-1.0,), prompt_logprobs=scored)

    assert measure_identity(ask, 1000, 4096) == pytest.approx([-(8 * part + 4.5) for part in range(8)])
    assert measure_identity(ask, 1000, 50)[0] < 0


def test_specs_of_servers_and_of_engines_in_this_process():
    served = parse_model_spec("vllm:http://localhost:8000/v1#org/name@main")
    assert (served.is_vllm, served.server, served.source) == (True, "http://localhost:8000/v1", "org/name")
    assert served.revision == "main"
    here = parse_model_spec("vllm:bundled:student")
    assert here.is_vllm
    assert here.server is None
    assert here.source.endswith("student")
    assert here.text == "vllm:bundled:student"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("vllm:http://localhost:8000/v1", "does not say which model the server serves"),
        ("vllm:http://localhost:8000/v1#", "does not say which model the server serves"),
        ("vllm:http://localhost:port/v1#a/b", "is no address of a server"),
        ("vllm:http:///v1#a/b", "is no address of a server"),
        ("vllm:vllm:a/b", "vLLM is given a folder"),
        ("vllm:", "names no model"),
        ("vllm:http://localhost:8000/v1#bundled:studnet", "Did you mean student"),
        ("vllm:http://me:secretsecret@localhost:8000/v1#a/b", "holds a URL with a password"),
    ],
)
def test_specs_that_say_too_little_are_told(text: str, words: str):
    with pytest.raises(SpecError if "studnet" not in text else Exception, match=words):
        parse_model_spec(text)
