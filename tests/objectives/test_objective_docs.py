"""The printed tables are the ones the code makes."""

from pathlib import Path

from objective_cases import cells

from hydrometer import objectives

PAGE = Path(__file__).parents[2] / "docs" / "objectives.md"


def test_the_page_holds_the_generated_tables() -> None:
    """To refresh: python -c "from hydrometer import objectives; print(objectives.topk_table())" (or alias_table)."""
    page = PAGE.read_text(encoding="utf-8")
    assert objectives.topk_table() in page
    assert objectives.alias_table() in page


def test_the_table_has_every_cell_and_rejects_what_the_grammar_rejects() -> None:
    rows = objectives.topk_table().splitlines()[2:]
    assert len(rows) == 7 * 5
    accepted = sum(row.rstrip(" |").endswith("accepted") for row in rows)
    assert accepted == len(cells(1))
    assert len(cells(2)) == len(rows)


def test_the_page_names_every_kind() -> None:
    page = PAGE.read_text(encoding="utf-8")
    for kind in objectives.KIND_NAMES:
        assert f"`{kind}`" in page
