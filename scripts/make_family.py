"""Make the bundled family from a seed: tokenizer, training runs, checkpoints, and the card with what was measured.

    python scripts/make_family.py                  # everything, in two processes of one thread each
    python scripts/make_family.py --runs expert    # one training run (the card is measured again)
    python scripts/make_family.py --measure-only

The whole takes under an hour of CPU. The same seed gives the same family on the same machine and library versions.
"""

import argparse
import json
import multiprocessing
import os
import shutil
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from pathlib import Path

# One thread per process, set before torch and tokenizers are loaded.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import torch
from family.members import LONG_STUDENT, RUNS, SEED
from family.tokenizer import build_tokenizer
from family.training import Progress, train
from transformers import GenerationConfig, PreTrainedTokenizerFast, Qwen3ForCausalLM

FAMILY_FOLDER = Path(__file__).parent.parent / "hydrometer" / "models" / "family"


def run_training(name: str, bundled: Path, scratch: Path) -> None:
    """Carry out one training run and save its members; what is not bundled goes to `scratch`."""
    torch.set_num_threads(1)
    run = RUNS[name]
    tokenizer = build_tokenizer(SEED)

    def save(model: Qwen3ForCausalLM, progress: Progress) -> None:
        member = run.members[progress.step]
        folder = (scratch if member == LONG_STUDENT else bundled) / member
        save_member(model, tokenizer, folder)
        record = {"run": name, "step": progress.step, "tokens": progress.tokens, "cpu_s": round(progress.cpu_s)}
        record |= {"loss_nats": round(progress.loss, 4), "plan": asdict(run.plan)}
        del record["plan"]["snapshots"]  # the keys of `Run.members`, and no part of how a member came to be
        (folder / "training.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
        print(f"{name}: saved {member} at step {progress.step}", flush=True)

    train(run.plan, tokenizer, on_snapshot=save, log=lambda text: print(f"{name}: {text}", flush=True))


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
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(options.processes, mp_context=context) as pool:
            futures = [pool.submit(run_training, name, options.out, options.scratch) for name in options.runs]
            for future in futures:
                future.result()
    if not options.no_measure:
        from family.measure import measure_family

        measure_family(options.out, options.scratch, processes=options.processes)


if __name__ == "__main__":
    main()
