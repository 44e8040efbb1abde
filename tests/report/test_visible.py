from hypothesis import given
from hypothesis import strategies as st

from hydrometer.report.visible import TOKEN_LIMIT, visible_text, visible_token


def test_spaces_and_line_ends_become_marks_apart_from_the_text():
    assert visible_token(" a\n") == ["", "·", "a", "⏎"]
    assert visible_token("·a") == ["·a"]  # a real middle dot stays text
    assert visible_token("a b\t\r") == ["a", "·", "b", "⇥␍"]
    assert visible_token("") == [""]


def test_invisible_and_direction_changing_characters_are_spelled_out():
    assert visible_token("a\u202eb") == ["a", "⟨U+202E⟩", "b"]
    assert visible_token("\x00\x1b") == ["", "⟨U+0000⟩⟨U+001B⟩"]
    assert visible_token("\u200d\u00a0\ufeff\u2028") == ["", "⟨U+200D⟩⟨U+00A0⟩⟨U+FEFF⟩⟨U+2028⟩"]
    assert visible_token("\ud800") == ["", "⟨U+D800⟩"]
    assert visible_token("\ufffd") == ["\ufffd"]
    assert visible_token("😀é漢") == ["😀é漢"]


def test_a_combining_sign_stands_on_its_own_circle():
    assert visible_token("\u0301a") == ["◌\u0301a"]
    assert visible_token("a\u0301") == ["a\u0301"]
    assert visible_token(" \u0301") == ["", "·", "◌\u0301"]


def test_a_huge_token_is_cut_and_says_by_how_much():
    parts = visible_token("x" * 100_000)
    assert parts == ["x" * TOKEN_LIMIT, f"… {100_000 - TOKEN_LIMIT:,} more characters"]
    assert visible_token("x" * 59 + "  ") == ["x" * 59, "·… 1 more characters"]


def test_running_text_keeps_its_spaces_and_lines():
    assert visible_text("a b\n\tc\u202e\x07") == "a b\n\tc⟨U+202E⟩⟨U+0007⟩"
    assert visible_text("abcdef", 4) == "abcd\n… 2 more characters"


@given(st.text(max_size=80))
def test_nothing_invisible_is_left_and_marks_stand_at_odd_places(text: str):
    parts = visible_token(text)
    assert all(part for part in parts[1:])
    shown = "".join(parts)
    assert not any(character in shown for character in "\n\t\r\u202a\u202b\u202d\u202e\u2066\u2067\u2069\x00")
    assert visible_text(shown) == shown  # already visible
