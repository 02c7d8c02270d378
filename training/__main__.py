"""``python -m training``: make the embedded model, stage by stage; each stage resumes where it was stopped.

``torchrun --standalone --nproc-per-node 2 -m training STAGE`` trains on two processes.
"""

from __future__ import annotations

import argparse
import random
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import torch

from autoglm.agent.actions import format_action
from autoglm.agent.devices.simulated.catalog import LABELS
from autoglm.agent.tasks.scenes import scene
from autoglm.model.autoglm_phone.model import AutoGLMPhoneModel
from training import stages
from training.card import plot_curves, write_card, write_readme
from training.dialogue import answer_text, train_tokenizer, write_prompt_files
from training.export import PROMPT_FILES, export
from training.loop import Plan
from training.shape import NAME
from training.team import Team

EVALUATION = Path(__file__).parents[1] / "benchmarks" / "results" / "agent_eval.json"
OUT = Path(__file__).parents[1] / "src" / "autoglm" / "models" / NAME
STAGES = ("tokens", "policy", "reading", "acting", "joint", "export", "card")
_RATES = {"policy": 2e-3, "reading": 2e-3, "acting": 1.5e-3, "joint": 5e-4}
_MINUTES = {"policy": 60.0, "reading": 45.0, "acting": 60.0, "joint": 60.0}


def main() -> int:
    """Status 0 if the stages asked for came to their end."""
    parser = argparse.ArgumentParser(prog="python -m training", description=__doc__)
    parser.add_argument("stages", nargs="*", metavar="STAGE", help=f"of {', '.join(STAGES)}; default: all but card")
    parser.add_argument("--work", type=Path, default=Path(".cache/training"), help="where state and curves are kept")
    parser.add_argument("--out", type=Path, default=OUT, help="checkpoint folder")
    parser.add_argument("--evaluation", type=Path, default=EVALUATION, help="result file that the card quotes")
    parser.add_argument("--minutes", type=float, help="length of the stage (default: as the shipped model)")
    parser.add_argument("--rate", type=float, help="learning rate at the plateau")
    parser.add_argument("--check-batches", type=int, default=8, help="of validation samples")
    parser.add_argument("--align-batches", type=int, default=30, help="acting: of screens that the tower is fitted on")
    parser.add_argument("--text-scenes", type=int, default=6000, help="scenes whose words make the vocabulary")
    parser.add_argument("--threads", type=int, default=1, help="of each process")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--of", choices=("acting", "joint"), default="joint", help="export: the stage whose state is written"
    )
    parser.add_argument("--start", type=Path, help="begin policy, acting or joint with this checkpoint folder")
    parser.add_argument("--fresh", action="store_true", help="start the stage again, from the stages before it")
    parser.add_argument(
        "--again", action="store_true", help="start from the stage's own last state with a new schedule"
    )
    options = parser.parse_args()
    chosen = options.stages or list(STAGES[:-1])
    unknown = sorted(set(chosen) - set(STAGES))
    if unknown:
        parser.error(f"no stage {unknown[0]!r}; there are {', '.join(STAGES)}")
    torch.set_num_threads(options.threads)
    return 0 if all(_run(stage, options) for stage in STAGES if stage in chosen) else 1


def _run(stage: str, options: argparse.Namespace) -> bool:
    tokens = options.work / "tokens"
    if stage == "tokens":
        write_prompt_files(tokens, train_tokenizer(_texts(options.text_scenes), vocab_size=2560))
        return True
    if stage == "card":
        plot_curves()
        write_card(options.out, options.evaluation)
        write_readme(options.evaluation)
        return True
    model = _started(tokens, options)
    if stage == "export":
        model.load_state_dict(_state(options.work / f"{options.of}.pt"))
        export(model.eval(), tokens, options.out)
        print(f"wrote {options.out}")
        return True
    plan = Plan(
        stage,
        options.work,
        options.minutes or _MINUTES[stage],
        options.rate or _RATES[stage],
        check_batches=options.check_batches,
        fresh=options.fresh or options.again,
    )
    if options.start is None:  # else the state of other stages is not wanted
        _take_over(plan, model, tokens, options)
    run = {"policy": stages.policy, "reading": stages.reading, "acting": stages.acting, "joint": stages.joint}[stage]
    print(f"{stage}: {plan.minutes:g} minutes, curve in {plan.curve_file}", file=sys.stderr)
    return run(plan, model, tokens, options.seed + 10_000 * Team().rank)


def _started(tokens: Path, options: argparse.Namespace) -> AutoGLMPhoneModel:
    """The model a stage begins with: a shipped checkpoint, whose vocabulary comes along, or fresh weights."""
    if options.start is None:
        return stages.new_model(tokens, options.seed)
    if not (tokens / "tokenizer.json").exists():
        tokens.mkdir(parents=True, exist_ok=True)
        for name in PROMPT_FILES:
            shutil.copyfile(options.start / name, tokens / name)
    return stages.started_model(options.start)


def _take_over(plan: Plan, model: AutoGLMPhoneModel, tokens: Path, options: argparse.Namespace) -> None:
    """Give ``model`` what its own last run left (``--again``), or what the stages before it have learnt."""
    if options.again:
        model.load_state_dict(_state(plan.state_file))
    elif plan.name == "joint":
        model.load_state_dict(_state(plan.directory / "acting.pt"))
    elif plan.name == "acting":
        model.load_state_dict(_state(plan.directory / "policy.pt"))
        stages.copy_tower(model, _state(plan.directory / "reading.pt"))
        if plan.fresh or not plan.state_file.exists():
            explained = stages.align(model, tokens, options.align_batches)
            print(f"aligned: {explained:.1%} of the variance", file=sys.stderr)


def _state(file: Path) -> dict[str, torch.Tensor]:
    state: dict[str, torch.Tensor] = torch.load(file, weights_only=True)["model"]
    return state


def _texts(scenes: int) -> Iterator[str]:
    """Words the vocabulary is made of."""
    rng = random.Random(0)
    for pair in LABELS.values():
        yield from pair * 20
    for _ in range(scenes):
        for sample in scene(rng, "train", 6).samples:
            yield f"{sample.instruction}\n{sample.current_app}\n{sample.last_think}"
            yield answer_text(sample.think, format_action(sample.action))


if __name__ == "__main__":
    sys.exit(main())
