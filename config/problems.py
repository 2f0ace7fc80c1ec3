"""What is wrong in a configuration, and the lines that say it: few, however many keys a file of another project has."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

MAX_KEYS = 60  # unknown keys named in one line; the rest is counted
MAX_LENGTH = 60  # characters of a key or of a value


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong.

    Attributes:
        source: the file, or the command line; "" where `text` says it.
        key: dotted.
        text: the whole message, without the source.
        value: what was found.
        is_unknown: the key is not known.
        is_structure: the value asks for a structure that is not built here.
        what: the structure in words; "" where the value names it.
        settings: keys that only that structure reads.
        meant: the known key that an unknown one is a misspelling of; "" where there is none.
        section: the section of an unknown key, where that is not known either; "" otherwise.
    """

    source: str
    key: str
    text: str
    value: Any = None
    is_unknown: bool = False
    is_structure: bool = False
    what: str = ""
    settings: tuple[str, ...] = ()
    meant: str = ""
    section: str = ""

    @property
    def line(self) -> str:
        return f"{self.source}: {self.text}" if self.source else self.text


def lines_of(problems: Sequence[Problem], relatives: Iterable[str]) -> list[str]:
    """One line per problem; but one for all unknown keys of a source, and, of a file of the TransReID codebase or of a
    relative, one for everything else: structures that are not built here, and wrong values.

    Args:
        problems: in the order in which they were found.
        relatives: names of the files of the codebase and its relatives.
    """
    relatives = set(relatives)
    groups: dict[tuple[str, str], list[Problem]] = {}
    for index, problem in enumerate(problems):
        kind = "unknown" if problem.is_unknown else "" if problem.source in relatives else str(index)
        groups.setdefault((problem.source, kind), []).append(problem)
    return [_line(group) for group in groups.values()]


def _line(group: Sequence[Problem]) -> str:
    if len(group) == 1:
        return group[0].line
    if group[0].is_unknown:
        return f"{group[0].source}: {unknown_keys(group)}"
    structures = [problem for problem in group if problem.is_structure]
    values = [problem.text for problem in group if not problem.is_structure]
    named = [structures[0].text] if len(structures) == 1 else [not_built(structures)] if structures else []
    return f"{group[0].source}: {'; '.join(named + values)}"


def not_built(problems: Sequence[Problem]) -> str:
    """ "not built here: MODEL.NAME 'RN50' (CLIP's ResNet-50), DATALOADER.SAMPLER 'bce_triplet'"."""
    named = (f"{other.key} {_short(other.value)}{f' ({other.what})' if other.what else ''}" for other in problems)
    return f"not built here: {', '.join(dict.fromkeys(named))}"


def unknown_keys(problems: Sequence[Problem]) -> str:
    """ "MODEL: HEAD_KEEP, MIX_DIM; SOLVER: JSD are not known keys (3)", and the spellings that may be meant.

    A section that is not known is named once, "tMODEL (14 keys)", with the section that may be meant.
    """
    groups: dict[str, list[Problem]] = {}  # a section that is not known, or one key -> its problems
    for problem in problems:
        groups.setdefault(problem.section or problem.key, []).append(problem)
    shown = dict(list(groups.items())[:MAX_KEYS])
    named, meant = [], []
    for name, group in shown.items():
        is_section = len(group) > 1
        named.append(f"{name[: MAX_LENGTH // 2]} ({len(group)} keys)" if is_section else group[0].key)
        sections = [other.meant.partition(".")[0] for other in group if other.meant]
        if sections:
            likeliest = max(sections, key=sections.count) if is_section else group[0].meant
            meant.append(f"{likeliest} for {name[:MAX_LENGTH] if is_section else group[0].key}")
    rest = len(problems) - sum(map(len, shown.values()))
    hint = f"; did you mean {', '.join(meant)}?" if meant else ""
    more = f" and {rest} more" if rest > 0 else ""
    return f"{by_section(named)}{more} are not known keys ({len(problems)}){hint}"


def by_section(keys: Iterable[str]) -> str:
    """Keys by their first section: "MODEL: HEAD_KEEP, MIX_DIM; SOLVER: JSD; INDEX"."""
    sections: dict[str, list[str]] = {}
    for key in keys:
        section, _, name = key.partition(".")
        sections.setdefault(section[:MAX_LENGTH], []).append(name[:MAX_LENGTH])
    return "; ".join(f"{name}: {', '.join(keys)}" if any(keys) else name for name, keys in sections.items())


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= MAX_LENGTH else f"{text[:MAX_LENGTH]}..."
