import numpy as np
import pytest
from tiny_models import EOS, TOKENS, build_network, build_tokenizer, tiny_model

from hydrometer.errors import TokenMapError
from hydrometer.models import check_token_maps
from hydrometer.models.transformers_model import TransformersModel
from hydrometer.sampling import ScriptedModel


def scripted(*tokens: str, name: str = "scripted") -> ScriptedModel:
    return ScriptedModel(tokens, lambda _prompt, _response: np.ones(len(tokens)) / len(tokens), name=name)


def test_equal_maps_share_all_their_ids():
    student = tiny_model()
    assert check_token_maps(student, {"same": tiny_model(seed=3), "itself": student}) == len(TOKENS)
    assert check_token_maps(student, {}) == len(TOKENS)


@pytest.mark.parametrize(("student_size", "teacher_size", "shared"), [(39, 64, 39), (64, 48, 48), (48, 64, 48)])
def test_padded_outputs_of_different_size_are_cut_to_the_shared_range(
    student_size: int, teacher_size: int, shared: int
):
    teachers = {"large": tiny_model(vocab=teacher_size), "llama": tiny_model("llama", vocab=64)}
    assert check_token_maps(tiny_model(vocab=student_size), teachers) == shared


def test_the_first_ids_that_differ_are_listed():
    student = scripted(EOS, *"abcdefgh", name="the-student")
    teacher = scripted(EOS, *"aBcDEFGH", name="the-teacher")
    with pytest.raises(TokenMapError) as caught:
        check_token_maps(student, {"fine": student, "other": teacher})
    text = str(caught.value)
    assert "'other' (the-teacher) gives 6 token ids another meaning than the student (the-student)" in text
    assert "id 2: student 'b', other 'B'" in text
    assert "id 7: student 'g', other 'G'" in text
    assert "id 8" not in text, "five are enough"
    assert len(text.splitlines()) <= 10


def test_an_id_the_teacher_lacks_is_listed():
    with pytest.raises(TokenMapError, match=r"1 token ids.*\n.*id 3: student 'c', short None"):
        check_token_maps(scripted(EOS, *"abc"), {"short": scripted(EOS, *"ab")})


def test_an_output_layer_smaller_than_the_students_tokenizer_is_refused():
    teacher = TransformersModel("cut", build_network(vocab=30), build_tokenizer(), "")
    with pytest.raises(TokenMapError, match=f"9 token ids.*\n.*id 30: student {TOKENS[30]!r}, cut None"):
        check_token_maps(tiny_model(), {"cut": teacher})


def test_ids_that_only_the_teacher_has_are_fine_and_never_shared():
    assert check_token_maps(scripted(EOS, *"abc"), {"wide": scripted(EOS, *"abcdef")}) == 4


def test_a_special_token_in_another_place_is_a_difference():
    moved = TransformersModel("moved", build_network(), build_tokenizer(("<eos>", "<pad>", *TOKENS[2:])), "")
    with pytest.raises(TokenMapError, match="gives 2 token ids another meaning"):
        check_token_maps(tiny_model(), {"moved": moved})
