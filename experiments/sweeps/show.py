"""What `experiments.sweep` says before it starts and when it is done, and shows of a sweep that others work on."""

import time

from rich.console import Console

from experiments.sweeps.devices import here, shares
from experiments.sweeps.plan import Plan, planned
from experiments.sweeps.view import View, best_table, shown
from vu_jax.errors import UserError
from vu_jax.report.sweep_page import write_sweep_page
from vu_jax.search import combinations


def announce(plan: Plan, jobs: int, cluster: str, screen: Console) -> None:
  """What is about to be done."""

  def say(name: str, text: str) -> None:
    screen.print(f"{name:>9}  {text}", markup=False, soft_wrap=True)

  say("sweep", f"{plan.config} -> {plan.directory}")
  goal = plan.objective
  say("goal", f"{goal.direction} {goal.split} {goal.name} at the end of {plan.resolved['train']['steps']} steps")
  if goal.split == "test":
    say(
      "note",
      "the best of many on the test split looks better than it is; a --config.train.eval_split of its own is safer",
    )
  for key, parameter in plan.space.items():
    say("vary", f"{key}: {parameter}")
  if (count := combinations(plan.space)) < planned(plan):
    say("note", f"there are only {count:.0f} different trials; --sampler=grid makes each of them once")
  say(
    "trials",
    f"{planned(plan)} by {plan.sampler}, pruner {plan.pruner}, {plan.batch} at once where they share a program",
  )
  if cluster == "local":
    each = ", ".join(dict.fromkeys(str(share) for share in shares(jobs, *here()))) if jobs > 1 else "this process"
    say("workers", f"{jobs} ({each})")


def dry_run(plan: Plan, screen: Console) -> None:
  """Shows what a new sweep would begin with; nothing is written."""
  from experiments.sweeps.study import draw

  announce(plan, 1, "", screen)
  asked, groups = draw(plan)
  for group in groups:
    screen.print(f"one program, {len(group.trials)} at once: {', '.join(map(str, group.trials))}")
  for each in asked:
    text = plan.command(each.number, each.values) if each.experiment else f"cannot be: {each.reason}"
    screen.print(f"trial {each.number}: {text}", markup=False, soft_wrap=True)


def watch(plan: Plan, screen: Console) -> None:
  """Shows a sweep that others work on, until it is done; Ctrl-C leaves it to them."""
  if not View(plan.directory).record:
    raise UserError(f"--jobs=0: there is no sweep in {plan.directory}")
  with shown(plan.directory, screen) as view:
    while view.trials("running") or len(view.trials()) < view.record["planned"]:
      time.sleep(1.0)
      view.look()
  conclude(plan, view, screen)


def conclude(plan: Plan, view: View, screen: Console) -> None:
  """The best trials, and what lies where.

  Raises:
    UserError: no trial has come to its end.
  """

  def say(text: str) -> None:
    screen.print(text, markup=False, soft_wrap=True)

  failed, best = view.trials("failed"), view.ranked()
  for trial in failed[:3]:
    say(f"trial {trial['number']} failed: {trial['reason']}")
  if running := view.trials("running"):
    say(f"{len(running)} trials are left to other workers, or to the next call of the same command")
  if best:
    screen.print(best_table(view))
    say(f"the best again: {best[0]['command']}")
  page = write_sweep_page(plan.directory)
  say(f"report: {page}   trials: {plan.directory / 'study.json'}   commands: {plan.directory / 'commands.sh'}")
  if not best and not running:
    raise UserError(f"no trial was completed: {len(failed)} failed, {len(view.trials('pruned'))} were pruned")
