"""Parts of a study: the jobs of some variants and seeds, and the overrides of a variant that nothing in it reads."""

from collections.abc import Callable, Mapping, Sequence

from processor.study import Plan, Study
from utils.errors import UserError, did_you_mean


def select(study: Study, plan: Plan, *, variants: Sequence[str] = (), seeds: Sequence[int] = ()) -> Plan:
    """The part of a plan for some variants and seeds, all where none is named: their tests, and the stages for these.

    Raises:
        UserError: the study has no such variant or seed.
    """
    for name in variants:
        if name not in study.variants:
            near = did_you_mean(name, study.variants)
            raise UserError(f"--variants: no variant {name!r:.80}{near}; the study has {', '.join(study.variants)}")
    for seed in seeds:
        if seed not in study.seeds:
            raise UserError(f"--seeds: no seed {seed}; the study has {', '.join(map(str, study.seeds))}")
    runs = [
        (name, seed)
        for name, seed in plan.tests
        if name in (variants or study.variants) and seed in (seeds or study.seeds)
    ]
    places = {place for run in runs for place in (*plan.stages[run], plan.tests[run])}
    return Plan(
        jobs={place: job for place, job in plan.jobs.items() if place in places},
        tests={run: plan.tests[run] for run in runs},
        stages={run: plan.stages[run] for run in runs},
        splits={run: plan.splits[run] for run in runs},
    )


def unread_overrides(study: Study, find_unread: Callable[[Sequence[str]], Mapping[str, str]]) -> list[str]:
    """One line for each key of the study that changes nothing: one of BASE or COMMON that no variant reads, and one of
    a variant that this variant does not read.

    Args:
        study: the study.
        find_unread: overrides -> keys that are given and that nothing in the experiment reads, with what they are for.
    """
    unread = {name: find_unread(study.variants[name]) for name in study.variants}
    lines = {}
    for name, keys in unread.items():
        for key, purpose in keys.items():
            if all(key in other for other in unread.values()):
                lines[key] = f"{key} is given, and no variant reads it: {purpose}"
            elif key in study.own_keys[name]:
                lines[f"{name} {key}"] = f"variant {name}: {key} is given, and nothing in it reads it: {purpose}"
    return list(lines.values())
