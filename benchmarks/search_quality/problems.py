"""The problems: which skills, which specialists, and what there is to find."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from .skills import Skill
from .training import Course


@dataclass(frozen=True)
class Problem:
    """One problem; everything follows from these numbers.

    Attributes:
        about: one line for the tables.
        skills: the skills of all courses.
        tasks: tags of the skills that are scored.
        base: the base's course.
        specialists: model name -> course.
        items: documents per task.
        rank: rank of LoRA adapters; 0, the specialists are whole models.
        knots: `space.knots` of search.yaml.
        known: name -> weights per model by layer, recipes that are known to be good.
    """

    name: str
    about: str
    skills: tuple[Skill, ...]
    tasks: str
    base: Course
    specialists: Mapping[str, Course]
    family: str = "llama"
    hidden: int = 96
    layers: int = 4
    items: int = 300
    rank: int = 0
    knots: int = 1
    seed: int = 0
    known: Mapping[str, Mapping[str, tuple[float, ...]]] = field(default_factory=dict)


def _even(tags: str) -> dict[str, float]:
    return dict.fromkeys(tags, 1.0)


def _mostly(tag: str, tags: str, share: float) -> dict[str, float]:
    """One skill, and a `share` of the others to keep them a little."""
    return {t: 1 - share if t == tag else share / (len(tags) - 1) for t in tags}


def _skills(*, length: int = 5, **names: str) -> tuple[Skill, ...]:
    """Skills by tag; a name that begins with `?` is a multiple choice."""
    return tuple(
        Skill(name.lstrip("?"), tag, "choice" if name.startswith("?") else "generate", length)
        for tag, name in names.items()
    )


def _five() -> Problem:
    rates = {"R": 3e-4, "S": 4e-4, "N": 4e-4, "W": 5e-4, "U": 6e-4}
    skills = _skills(R="reverse", S="sort", N="next", W="swap", U="unique")
    return Problem(
        "five",
        "five specialists with one skill each",
        skills,
        "RSNWU",
        Course(_even("RSNWU"), 130, 3e-3, seed=1),
        {s.name: Course(_mostly(s.tag, "RSNWU", 0.2), 60, rates[s.tag], seed=10 + i) for i, s in enumerate(skills)},
        known={
            f"total {0.35 + 0.4 + 0.4 + w:g}": {"reverse": (0.35,), "sort": (0.4,), "swap": (w,), "unique": (0.4,)}
            for w in (0.6, 0.8, 1.0)
        },
    )


def _three() -> Problem:
    return Problem(
        "three",
        "three specialists, one of them good at everything",
        _skills(U="?unique", S="sort", W="swap"),
        "USW",
        Course(_even("USW"), 100, 3e-3, seed=2),
        {
            "everything": Course(_even("USW"), 120, 6e-4, seed=20),
            "sort": Course(_mostly("S", "USW", 0.04), 80, 6e-4, seed=21),
            "swap": Course(_mostly("W", "USW", 0.04), 80, 6e-4, seed=22),
        },
        items=500,
    )


def _conflict() -> Problem:
    return Problem(
        "conflict",
        "three specialists that each answer all questions in one way",
        _skills(A="sort", D="descend", R="?reverse"),
        "ADR",
        Course(_even("ADR"), 85, 3e-3, seed=3),
        {
            "sort": Course({"A": 1.0}, 60, 5e-4, seed=30),
            "descend": Course({"D": 1.0}, 60, 5e-4, seed=31),
            "reverse": Course({"R": 1.0}, 60, 5e-4, seed=32),
        },
        family="qwen2",
        items=500,
    )


def _eight() -> Problem:
    return Problem(
        "eight",
        "eight specialists, of which three matter; three are harmful and two useless",
        _skills(R="reverse", S="sort", W="?swap", B="back", M="mirror"),
        "RSW",
        Course(_even("RSWBM"), 130, 3e-3, seed=4),
        {
            "reverse": Course(_mostly("R", "RSW", 0.04), 80, 6e-4, seed=40),
            "rubbish_reverse": Course({"R": -1.0}, 40, 4e-4, seed=41),
            "back": Course({"B": 1.0}, 40, 4e-4, seed=42),
            "sort": Course(_mostly("S", "RSW", 0.04), 80, 6e-4, seed=43),
            "rubbish_sort": Course({"S": -1.0}, 40, 4e-4, seed=44),
            "swap": Course(_mostly("W", "RSW", 0.04), 80, 6e-4, seed=45),
            "mirror": Course({"M": 1.0}, 40, 4e-4, seed=46),
            "rubbish_swap": Course({"W": -1.0}, 40, 4e-4, seed=47),
        },
        items=500,
        known={f"three of total {3 * w:g}": dict.fromkeys(("reverse", "sort", "swap"), (w,)) for w in (0.3, 0.4, 0.5)},
    )


def _equal() -> Problem:
    return Problem(
        "equal",
        "four equal parents; half of the items can only be guessed, and nothing can be gained",
        _skills(length=4, N="next", C="?chance"),
        "NC",
        Course(_even("NC"), 120, 3e-3, seed=5),
        {name: Course(_even("NC"), 50, 5e-4, seed=50 + i) for i, name in enumerate("abcd")},
        family="gpt_neox",
        items=600,
    )


def _layers() -> Problem:
    skills = _skills(R="reverse", S="sort", W="swap")
    places = {"reverse": (0, 1, 2), "sort": (3, 4, 5), "swap": (2, 3)}
    known = {
        f"{weight:g} in their layers": {m: tuple(weight * (i in at) for i in range(6)) for m, at in places.items()}
        for weight in (0.5, 0.75)
    }
    for weight in (0.2, 0.4):
        uneven = {"reverse": 1.0, "sort": weight, "swap": weight}
        known[f"1, {weight:g} and {weight:g} in their layers"] = {
            m: tuple(uneven[m] * (i in at) for i in range(6)) for m, at in places.items()
        }
    return Problem(
        "layers",
        "three specialists, each with its skill in two layers and noise in the four others",
        skills,
        "RSW",
        Course(_even("RSW"), 120, 3e-3, seed=6),
        {
            s.name: Course(_mostly(s.tag, "RSW", 0.2), 70, 8e-4, seed=60 + i, layers=places[s.name], noise=0.35)
            for i, s in enumerate(skills)
        },
        hidden=80,
        layers=6,
        items=500,
        knots=3,
        known=known,
    )


def _lora() -> Problem:
    return Problem(
        "lora",
        "three LoRA adapters of one base",
        _skills(R="?reverse", U="unique", G="running"),
        "RUG",
        Course(_even("RUG"), 110, 3e-3, seed=7),
        {
            "reverse": Course(_mostly("R", "RUG", 0.04), 80, 3e-3, seed=70),
            "unique": Course(_mostly("U", "RUG", 0.04), 80, 3e-3, seed=71),
            "running": Course(_mostly("G", "RUG", 0.04), 80, 3e-3, seed=72),
        },
        items=500,
        rank=8,
    )


PROBLEMS: dict[str, Problem] = {
    problem.name: problem for problem in (_five(), _three(), _conflict(), _eight(), _equal(), _layers(), _lora())
}
