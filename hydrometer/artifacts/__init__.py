"""The run folder: typed tables, a journal of rounds, lock and resume. Everything a report shows is a file here."""

from hydrometer.artifacts.journal import Journal, read_journal
from hydrometer.artifacts.run_folder import (
    RunFolder,
    open_run_folder,
    read_json,
    read_run_json,
    read_table,
    refuse_used_folder,
    scan_table,
    write_json,
    write_parts,
    write_table,
    write_text,
)
from hydrometer.artifacts.schemas import SCHEMA_VERSION, TABLES, build_table

__all__ = [
    "SCHEMA_VERSION",
    "TABLES",
    "Journal",
    "RunFolder",
    "build_table",
    "open_run_folder",
    "read_journal",
    "read_json",
    "read_run_json",
    "read_table",
    "refuse_used_folder",
    "scan_table",
    "write_json",
    "write_parts",
    "write_table",
    "write_text",
]
