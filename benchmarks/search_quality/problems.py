"""The problems: which skills, which specialists, and what there is to find."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from .skills import Kind, Skill
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
        ancestor: the course that specialists share before they part; None, they start from the base.
        max_drop: name of a skill that is a text -> how much worse than the best parent its task may get, in bits per
            byte.
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
    ancestor: Course | None = None
    max_drop: Mapping[str, float] = field(default_factory=dict)
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
    """Skills by tag; a name that begins with `?` is a multiple choice, one that begins with `~` a text."""
    kinds: dict[str, Kind] = {"?": "choice", "~": "text"}
    return tuple(Skill(name.lstrip("?~"), tag, kinds.get(name[0], "generate"), length) for tag, name in names.items())


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
        _skills(length=6, U="?unique", S="sort", W="swap"),
        "USW",
        Course(_even("USW"), 95, 3e-3, seed=2),
        {
            "everything": Course(_even("USW"), 95, 6e-4, seed=20),
            "sort": Course(_mostly("S", "USW", 0.04), 70, 6e-4, seed=21),
            "swap": Course(_mostly("W", "USW", 0.04), 70, 6e-4, seed=22),
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
    divisors = {"reverse": (0.4, 1.2, 2.0), "sort": (2.0, 1.2, 0.4), "swap": (0.5, 1.6, 0.5)}
    return Problem(
        "layers",
        "three specialists whose task vectors are too long in some layers and too short in others",
        skills,
        "RSW",
        Course(_even("RSW"), 120, 3e-3, seed=6),
        {
            s.name: Course(_mostly(s.tag, "RSW", 0.2), 70, 8e-4, seed=60 + i, divisors=divisors[s.name])
            for i, s in enumerate(skills)
        },
        hidden=80,
        layers=6,
        items=500,
        knots=3,
        known={
            f"{share:g} of the divisors": {m: tuple(share * d for d in found) for m, found in divisors.items()}
            for share in (0.3, 0.4, 0.5)
        },
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


def _norms() -> Problem:
    skills = _skills(R="reverse", D="descend", W="swap", U="unique")
    divisors = {"reverse": 3.0, "descend": 0.5, "swap": 1.5, "unique": 1.0}
    return Problem(
        "norms",
        "four specialists whose task vectors have very different lengths",
        skills,
        "RDWU",
        Course(_even("RDWU"), 130, 3e-3, seed=8),
        {
            s.name: Course(_mostly(s.tag, "RDWU", 0.2), 60, 5e-4, seed=80 + i, divisors=(divisors[s.name],))
            for i, s in enumerate(skills)
        },
        family="qwen2",
        items=400,
        known={
            f"{share:g} of the divisors": {name: (share * divisor,) for name, divisor in divisors.items()}
            for share in (0.35, 0.42, 0.5)
        },
    )


def _twelve() -> Problem:
    skills = _skills(length=6, R="?reverse", D="?descend", W="?swap", M="?mirror")
    return Problem(
        "twelve",
        "twelve specialists, three per skill: trained for long, briefly, and on rubbish; multiple choice only",
        skills,
        "RDWM",
        Course(_even("RDWM"), 70, 3e-3, seed=9),
        {
            f"{kind}_{s.name}": course
            for i, s in enumerate(skills)
            for kind, course in (
                ("long", Course(_mostly(s.tag, "RDWM", 0.1), 70, 6e-4, seed=90 + i)),
                ("brief", Course(_mostly(s.tag, "RDWM", 0.1), 25, 4e-4, seed=94 + i)),
                ("rubbish", Course({s.tag: -1.0}, 25, 4e-4, seed=98 + i)),
            )
        },
        family="gpt_neox",
        items=400,
        known={
            f"four of total {4 * weight:g}": {f"long_{s.name}": (weight,) for s in skills} for weight in (0.3, 0.4, 0.5)
        },
    )


def _two() -> Problem:
    return Problem(
        "two",
        "two parents that share a long way from the base before they part",
        _skills(length=6, S="sort", R="reverse"),
        "SR",
        Course(_even("SR"), 30, 3e-3, seed=11),
        {
            "sort": Course(_mostly("S", "SR", 0.05), 80, 8e-4, seed=110),
            "reverse": Course(_mostly("R", "SR", 0.05), 80, 8e-4, seed=111),
        },
        ancestor=Course(_even("SR"), 150, 2e-3, seed=12),
        items=500,
    )


def _guard() -> Problem:
    return Problem(
        "guard",
        "three specialists, and the perplexity of a text that no merge may spoil",
        (*_skills(R="reverse", W="swap", D="descend"), *_skills(length=12, X="~walk")),
        "RWDX",
        Course(_even("RWDX"), 130, 3e-3, seed=13),
        {
            "reverse": Course({"R": 0.75, "W": 0.1, "D": 0.1, "X": 0.05}, 60, 5e-4, seed=130),
            "swap": Course({"R": 0.1, "W": 0.8, "D": 0.1}, 60, 5e-4, seed=131),
            "descend": Course({"R": 0.1, "W": 0.1, "D": 0.8}, 60, 5e-4, seed=132),
        },
        max_drop={"walk": 0.1},
        items=300,
    )


PROBLEMS: dict[str, Problem] = {
    problem.name: problem
    for problem in (
        *(_five(), _three(), _conflict(), _eight(), _equal(), _layers(), _lora()),
        *(_norms(), _twelve(), _two(), _guard()),
    )
}
