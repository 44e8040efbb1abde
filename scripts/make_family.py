"""Make the bundled family from a seed: tokenizer, training runs, checkpoints, and the card with what was measured.

    python scripts/make_family.py                  # everything, in two processes of one thread each
    python scripts/make_family.py --runs expert    # one training run; its members are measured again
    python scripts/make_family.py --measure-only   # all members; with --runs those of some runs

The whole takes under an hour of CPU. The same seed gives the same family on the same machine and library versions.
Members are compared with the student, and `expert-rl` is made from it: after `--runs student` remake that one too.
"""

import argparse
import json
import multiprocessing
import os
import shutil
from collections.abc import Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

# One thread per process, set before torch and tokenizers are loaded.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import torch
from family.members import LONG_STUDENT, RUNS, SEED, run_of
from family.reward import RewardPlan, train_by_reward
from family.tokenizer import build_tokenizer
from family.training import train
from transformers import GenerationConfig, PreTrainedTokenizerFast, Qwen3ForCausalLM

FAMILY_FOLDER = Path(__file__).parent.parent / "hydrometer" / "models" / "family"


def train_all(runs: Sequence[str], bundled: Path, scratch: Path, *, processes: int) -> None:
    """Carry out training runs side by side; one that begins with a member waits for the run that makes it."""
    futures: dict[str, Future[None]] = {}
    with ProcessPoolExecutor(processes, mp_context=multiprocessing.get_context("spawn")) as pool:
        for name in sorted(runs, key=list(RUNS).index):
            plan = RUNS[name].plan
            if isinstance(plan, RewardPlan) and (before := run_of(plan.start)) in futures:
                futures[before].result()
            futures[name] = pool.submit(run_training, name, bundled, scratch)
        for future in futures.values():
            future.result()


def run_training(name: str, bundled: Path, scratch: Path) -> None:
    """Carry out one training run and save its members; what is not bundled goes to `scratch`."""
    torch.set_num_threads(1)
    plan = RUNS[name].plan
    tokenizer = build_tokenizer(SEED)

    def save(model: Qwen3ForCausalLM, record: dict[str, Any]) -> None:
        member = RUNS[name].members[record["step"]]
        folder = (scratch if member == LONG_STUDENT else bundled) / member
        save_member(model, tokenizer, folder)
        whole = {"run": name, **record, "plan": asdict(plan)}
        whole["plan"].pop("snapshots", None)  # the keys of `Run.members`, and no part of how a member came to be
        (folder / "training.json").write_text(json.dumps(whole, indent=1) + "\n", encoding="utf-8")
        print(f"{name}: saved {member} at step {record['step']}", flush=True)

    def log(text: str) -> None:
        print(f"{name}: {text}", flush=True)

    if isinstance(plan, RewardPlan):
        work = scratch / f"{name}-run"
        shutil.rmtree(work, ignore_errors=True)
        save(*train_by_reward(plan, bundled / plan.start, work))
    else:
        train(plan, tokenizer, on_snapshot=lambda model, progress: save(model, progress.as_json()), log=log)


def save_member(model: Qwen3ForCausalLM, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Write an ordinary Hugging Face folder with bfloat16 weights."""
    shutil.rmtree(folder, ignore_errors=True)
    copy = Qwen3ForCausalLM(model.config)
    copy.load_state_dict({name: value.to(torch.bfloat16) for name, value in model.state_dict().items()})
    copy.bfloat16()
    copy.generation_config = GenerationConfig(
        do_sample=True,
        temperature=1.0,
        top_k=0,
        top_p=1.0,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    copy.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def main() -> None:
    """Parse the options, train, measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", nargs="+", choices=sorted(RUNS), default=list(RUNS))
    parser.add_argument("--out", type=Path, default=FAMILY_FOLDER, help="where the members are written")
    parser.add_argument("--scratch", type=Path, default=Path("build/family"), help="for what is not bundled")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--measure-only", action="store_true")
    parser.add_argument("--no-measure", action="store_true")
    options = parser.parse_args()
    if not options.measure_only:
        train_all(options.runs, options.out, options.scratch, processes=options.processes)
    if not options.no_measure:
        from family.measure import measure_family

        measure_family(options.out, options.scratch, options.runs, processes=options.processes)


if __name__ == "__main__":
    main()
