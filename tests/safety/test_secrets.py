"""Keys of the environment and passwords in URLs: in no file of a run, and in nothing that is printed."""

from pathlib import Path

import pytest
from tiny_runs import TINY, Command, tiny

from hydrometer.cli.printable import printable
from hydrometer.credentials import hide_secrets, refuse_secrets
from hydrometer.errors import SpecError

KEYS = {
    "HF_TOKEN": "hf_sentinelsentinel1",
    "OPENAI_API_KEY": "sk-sentinelsentinel2",
    "WANDB_API_KEY": "sentinelsentinelsentinel3",
    "MY_PASSWORD": "sentinel four sentinel",
}
URL = "https://me:sentinel5+pass@host/v1"


@pytest.fixture(autouse=True)
def keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)


def holds_secret(data: bytes) -> bool:
    return any(value.encode() in data for value in (*KEYS.values(), "sentinel5", "pass@host"))


def written(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())


def test_a_run_and_what_it_prints_hold_no_key(workplace: Path, run: Command) -> None:
    said = run(["diagnose", *TINY, "--teacher", "self+answer", "--no-check", "--out", "out"])
    assert said.code == 0
    assert not holds_secret(written(workplace / "out") + (said.out + said.err).encode())
    assert holds_secret(b"x" + KEYS["HF_TOKEN"].encode()), "the search finds keys"


REFUSED = {
    "student": {"student": URL},
    "server": {"student": f"vllm:{URL}#M"},
    "teacher": {"teacher": f"t={URL}"},
    "teacher with a context": {"teacher": f"{URL}+answer"},
    "task": {"task": f"hf:{URL}"},
    "rule": {"teacher": f"self+rule:see {URL}"},
    "system prompt": {"system_prompt": f"I am {KEYS['OPENAI_API_KEY']}."},
    "summariser": {"summariser": URL},
    "verifier": {"verifier": f"{URL}:check"},
    "device": {"device": KEYS["MY_PASSWORD"]},
}


@pytest.mark.parametrize("options", REFUSED.values(), ids=REFUSED)
@pytest.mark.parametrize("by_file", [False, True])
def test_a_secret_in_an_option_is_refused_and_not_repeated(
    options: dict[str, str], by_file: bool, workplace: Path, run: Command
) -> None:
    arguments = tiny(**options)
    if by_file:
        lines = [f"{name} = '''{value}'''\n" for name, value in options.items()]
        Path("run.toml").write_text("".join(lines))
        given = {f"--{name.replace('_', '-')}" for name in options}
        pairs = zip(TINY[::2], TINY[1::2], strict=True)
        arguments = [text for pair in pairs if pair[0] not in given for text in pair] + ["--config", "run.toml"]
    said = run(["diagnose", *arguments, "--out", "out"])
    assert said.code == 2
    assert "keys are taken from the environment only" in said.err
    assert not holds_secret((said.out + said.err).encode())
    assert not Path("out").exists()


@pytest.mark.parametrize("option", ["--template=rule=FILE", "--system-prompt=@FILE", "--teacher=self+rule:@FILE"])
def test_a_secret_in_a_file_that_is_recorded_is_refused(option: str, workplace: Path, run: Command) -> None:
    Path("FILE").write_text(f"$prompt {KEYS['HF_TOKEN']}")
    said = run(["diagnose", *TINY, "--no-check", option, "--out", "out"])
    assert said.code == 2
    assert "the value of the environment variable HF_TOKEN" in said.err
    assert not holds_secret((said.out + said.err).encode())
    assert not Path("out").exists()


WRONG = [
    ["check", URL],
    ["check", "student", URL],
    ["report", URL],
    ["nothing", URL],
    [URL],
    ["diagnose", URL],
    ["diagnose", "--seed", URL],
    ["diagnose", f"--{URL}"],
    ["diagnose", "--config", URL],
]


@pytest.mark.parametrize("command", WRONG)
def test_a_message_quotes_no_password(command: list[str], workplace: Path, run: Command) -> None:
    said = run(command)
    assert said.code == 2
    assert not holds_secret((said.out + said.err).encode())


def test_what_is_hidden_and_what_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    assert printable(f"at {URL}, with {KEYS['HF_TOKEN']}.") == "at https://***@host/v1, with ***."
    monkeypatch.setenv("SHORT_KEY", "student")
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "false-or-true-it-is-long")
    for text in ("student", "false-or-true-it-is-long", "me@host.org", "https://host/a:b@c", "http://host:80/v1"):
        assert hide_secrets(text) == text
        refuse_secrets({"deep": [{"er": text}]}, "here")
    with pytest.raises(SpecError, match=r"here\.deep\.er holds the value of the environment variable HF_TOKEN"):
        refuse_secrets({"deep": [{"er": KEYS["HF_TOKEN"]}]}, "here")


def test_a_verifier_that_quotes_the_environment_is_quoted_without_it() -> None:
    from hydrometer.tasks.verifiers.loading import describe_error

    assert describe_error(ValueError(f"no access with {KEYS['OPENAI_API_KEY']}")) == "ValueError: no access with ***"
