"""`hf:DATASET[@REVISION][/CONFIG]`: parquet or JSON-lines files of a dataset on the Hugging Face Hub; `hf:./FOLDER`.

Columns: see `columns`. A file belongs to the split that a word of its path names (`data/train-00000-of-00001.parquet`):

    files of        train        diagnose                test
    train           those        -                       -
    validation      -            those, or half of them  the other half where no file is named test
    test            -            half where there is no validation, the other half
    (no word)       as if of train, where no other file is

Where only training files exist, a hash of the question sends half to train and a quarter each to diagnose and test.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple

import polars as pl

from hydrometer.errors import SpecError
from hydrometer.inputs import refuse_special
from hydrometer.tasks.columns import build_question, choose_verifier
from hydrometer.tasks.rows import QuestionSet, Split, drop_repeated, expand, hash_of, read_rows, split_held_out
from hydrometer.types import Question

_SPEC = re.compile(r"(?P<name>[\w.-]+(?:/[\w.-]+)?)(?:@(?P<revision>[\w.-]+))?(?:/(?P<config>[\w.-]+))?")
_PATTERNS = ("*.parquet", "*.jsonl", "*.jsonl.gz")
Part = Literal["train", "validation", "test"]
_WORDS: dict[str, Part] = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("validation", "valid", "val", "dev"), "validation"),
    **dict.fromkeys(("test", "testing", "eval", "evaluation"), "test"),
}
_PLAIN_FOLDERS = ("data", "default", ".")


class _Source(NamedTuple):
    spec: str
    folder: Path
    config: str | None


def load_hub(spec: str, verifier: str | None = None) -> QuestionSet:
    """Questions of a dataset; `spec` is what follows `hf:`.

    Raises:
        SpecError: no such folder or dataset, no file that can be read, several configurations, or a row without the
            columns that are needed.
    """
    source = _find_source(spec)
    files = _choose_files(source)
    rows: list[tuple[Part, str, dict[str, Any]]] = [
        (part, place, row) for part, file in files for place, row in _read_file(file, source.folder)
    ]
    if not rows:
        raise SpecError(f"'hf:{spec}' holds no questions.")
    types = {str(row["answer_type"]): place for _, place, row in reversed(rows) if row.get("answer_type")}
    verifier = choose_verifier(types, verifier)
    parts: set[Part] = {part for part, _, _ in rows}
    splits: dict[Split, list[Question]] = {}
    seen: dict[str, str] = {}
    for part, place, row in rows:
        question_id = str(row["id"]) if row.get("id") is not None else place
        if question_id in seen:
            raise SpecError(f"'hf:{spec}', {place}: the id {question_id!r} is already that of {seen[question_id]}.")
        seen[question_id] = place
        question = build_question(row, place, question_id=question_id, task=f"hf:{spec}", verifier=verifier)
        splits.setdefault(_split(part, parts, question), []).append(question)
    return QuestionSet(
        f"hf:{spec}", drop_repeated(splits), verifier, "docs/tasks.md says which files make which split."
    )


def _split(part: Part, parts: set[Part], question: Question) -> Split:
    text = question.prompt[-1].content
    if part == "train":
        if parts != {"train"}:
            return "train"
        return "train" if hash_of(text, "train") & 1 else split_held_out(text)
    if len(parts - {"train"}) == 2:
        return "diagnose" if part == "validation" else "test"
    return split_held_out(text)


def _find_source(spec: str) -> _Source:
    if spec.startswith((".", "/", "~")):
        folder = expand(spec)
        if not folder.is_dir():
            raise SpecError(f"'hf:{spec}': there is no folder {folder}.")
        return _Source(spec, folder, None)
    found = _SPEC.fullmatch(spec)
    if found is None:
        raise SpecError(f"'hf:{spec}': expected hf:OWNER/NAME[@REVISION][/CONFIG], or hf:./FOLDER for local files.")
    patterns = [f"{found['config']}/**/{p}" for p in _PATTERNS] + [f"{found['config']}/{p}" for p in _PATTERNS]
    folder = _download(spec, found["name"], found["revision"], patterns if found["config"] else list(_PATTERNS))
    return _Source(spec, folder, found["config"])


def _download(spec: str, name: str, revision: str | None, patterns: list[str]) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(name, repo_type="dataset", revision=revision, allow_patterns=patterns))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        reason = " ".join(str(error).split())[:200]
        raise SpecError(
            f"'hf:{spec}': dataset {name}{f'@{revision}' if revision else ''} cannot be had from the Hub: {reason}\n"
            "For files on this machine write hf:./FOLDER"
        ) from error


def _choose_files(source: _Source) -> list[tuple[Part, Path]]:
    """Parquet files, or JSON-lines files where there are none, each with the part of the data set it belongs to."""
    spec, folder = source.spec, source.folder
    root = folder / source.config if source.config else folder
    found = {
        suffix: sorted(file for file in root.rglob(f"*{suffix}") if not file.is_dir())
        for suffix in (".parquet", ".jsonl", ".jsonl.gz")
    }
    files = found[".parquet"] or sorted([*found[".jsonl"], *found[".jsonl.gz"]])
    if not files:
        at = f" (configuration {source.config})" if source.config else ""
        raise SpecError(f"'hf:{spec}'{at} has no .parquet, .jsonl or .jsonl.gz file.")
    tops = {file.relative_to(root).parts[0] if len(file.relative_to(root).parts) > 1 else "." for file in files}
    configs = sorted(top for top in tops if top not in _PLAIN_FOLDERS and _find_part(Path(top)) is None)
    if len(configs) > 1:
        raise SpecError(
            f"'hf:{spec}' has several configurations: {', '.join(configs)}. Take one: hf:{spec}/{configs[0]}"
        )
    named: list[tuple[Part, Path]] = []
    for file in files:
        if (part := _find_part(file.relative_to(root))) is not None:
            named.append((part, file))
    if named:
        return named
    unnamed: Part = "train"
    return [(unnamed, file) for file in files]


def _find_part(path: Path) -> Part | None:
    """What the words of a path say, the file's name before its folders."""
    for piece in reversed(path.parts):
        for word in re.split(r"[^a-z]+", piece.lower()):
            if word in _WORDS:
                return _WORDS[word]
    return None


def _read_file(file: Path, folder: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every row with its place, `data/train.parquet row 3`."""
    name = file.relative_to(folder)
    if file.suffix != ".parquet":
        for number, row in read_rows(file):
            yield f"{name} line {number}", row
        return
    try:
        refuse_special(file)
        frame = pl.read_parquet(file, glob=False)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise SpecError(f"{file} cannot be read: {' '.join(str(error).split())[:200]}") from error
    for number, row in enumerate(frame.iter_rows(named=True)):
        yield f"{name} row {number}", row
