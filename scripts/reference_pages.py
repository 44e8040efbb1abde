"""Writes the pages of docs/ that say what the code says: commands, columns of tables, metrics.

python -m scripts.reference_pages            writes docs/cli.md, docs/run-folder-columns.md and docs/metrics.md
"""

import re
from pathlib import Path

from hydrometer.artifacts.metrics import describe_metrics
from hydrometer.artifacts.schemas import KEYS, SCHEMAS, TABLES
from hydrometer.cli.main import app

DOCS = Path(__file__).parents[1] / "docs"
_CLI_HEAD = """\
# Command line

Generated from the code; `hydrometer COMMAND --help` prints the same. Every option can stand in a TOML file too
(`--config FILE`), and flags win over it. Exit codes: 0 done, 2 something to put right (one message), 130 interrupted
and resumable, 1 a bug (a traceback).

"""
_TABLES_HEAD = """\
# Columns of the tables

Generated from `hydrometer/artifacts/schemas.py`. Rows are sorted by the key, which is in bold; a float is finite or
null. What the tables and the less obvious columns mean is in [run-folder.md](run-folder.md). `teacher_scores` has one
more Float64 column `field:OBJECTIVE` for every objective of the run.
"""
_FILES = {
    "evaluation": "`evaluation.parquet` of an evaluation (`step` 0) or a training run",
    "probe_responses": "`responses.parquet` of a probe",
    "probe_tokens": "`tokens.parquet` of a probe",
    "probe_disagreement": "`disagreement.parquet` of a probe",
}


def build_cli_page() -> str:
    """Every command with its options, types and defaults."""
    text = app.generate_docs()
    text = re.sub(r" -m [\w.]+(?= \[OPTIONS\])", "", text)  # how this process was started is put into usage lines
    text = re.sub(r"\A# hydrometer\n", "", text)
    text = re.sub(r"## Table of Contents\n.*?(?=\*\*Commands\*\*)", "", text, flags=re.DOTALL)
    text = text.replace(" *[default: False]*", "").replace(" *[default: ()]*", "")
    lines = [line.rstrip() for line in text.strip().splitlines()]
    return _CLI_HEAD + "\n".join(lines) + "\n"


def build_tables_page() -> str:
    """Columns and types of every table."""
    parts = [_TABLES_HEAD]
    for name, columns in SCHEMAS.items():
        where = f"`{name}.parquet` of a diagnosis" if name in TABLES else _FILES[name]
        parts += [f"## {name}\n", f"{where}\n", "| column | type |", "|---|---|"]
        parts += [f"| {_column(column, name)} | {_type(dtype)} |" for column, dtype in columns.items()]
        parts.append("")
    return "\n".join(parts)


def _column(column: str, table: str) -> str:
    return f"**`{column}`**" if column in KEYS[table] else f"`{column}`"


def _type(dtype: object) -> str:
    text = str(dtype).replace("{", "(").replace("}", ")").replace("'", "")
    return f"`{text}`"


PAGES = {"cli.md": build_cli_page, "run-folder-columns.md": build_tables_page, "metrics.md": describe_metrics}


def main() -> None:
    """Write the pages."""
    for name, build in PAGES.items():
        (DOCS / name).write_text(build(), encoding="utf-8")


if __name__ == "__main__":
    main()
