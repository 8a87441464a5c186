"""SVG elements as escaped markup."""

from __future__ import annotations

from collections.abc import Iterable

from markupsafe import Markup, escape

CHARACTER = 6.6  # mean width of a character of the labels, in the units of the picture
ELLIPSIS = "…"


def element(name: str, *children: str, **attributes: str | float | None) -> Markup:
    """Return an element; text is escaped. A trailing underscore of a keyword is dropped, others become hyphens."""
    written = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(plain(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    inner = Markup("").join(children)
    return Markup(f"<{name}{written}/>") if not inner else Markup(f"<{name}{written}>{inner}</{name}>")


def plain(value: str | float) -> str:
    """Return a number with at most one decimal; text is unchanged."""
    return value if isinstance(value, str) else f"{round(value, 1) + 0.0:.1f}".removesuffix(".0")


def picture(width: float, height: float, label: str, children: Iterable[str]) -> Markup:
    """Return an SVG picture; `label` describes it to screen readers."""
    return element(
        "svg",
        *children,
        viewBox=f"0 0 {plain(width)} {plain(height)}",
        role="img",
        aria_label=label,
        class_="plot",
        style=f"max-width:{plain(width)}px",
    )


def text(x: float, y: float, content: str, **attributes: str | float | None) -> Markup:
    """Return a text element."""
    return element("text", content, x=x, y=y, **attributes)


def line(x1: float, y1: float, x2: float, y2: float, class_: str, **attributes: str | float | None) -> Markup:
    """Return a line."""
    return element("line", x1=x1, y1=y1, x2=x2, y2=y2, class_=class_, **attributes)


def path(points: Iterable[tuple[float, float]], class_: str, *, title: str = "") -> Markup:
    """Return a polyline through the points, with a tooltip if `title` is not empty."""
    steps = " ".join(f"{'M' if i == 0 else 'L'}{plain(x)} {plain(y)}" for i, (x, y) in enumerate(points))
    return element("path", *tooltip(title), d=steps, class_=class_)


def dot(x: float, y: float, class_: str, *, title: str = "", radius: float = 3.5) -> Markup:
    """Return a circle with a tooltip."""
    return element("circle", *tooltip(title), cx=x, cy=y, r=radius, class_=class_)


def tooltip(title: str) -> tuple[Markup, ...]:
    """Return the tooltip of an element as its child; nothing for empty text."""
    return (element("title", title),) if title else ()


def shortened(label: str, width: float) -> str:
    """Return a label cut off in the middle if it is wider than `width`."""
    most = max(4, int(width / CHARACTER))
    if len(label) <= most:
        return label
    tail = most // 2
    return f"{label[: most - tail - 1]}{ELLIPSIS}{label[-tail:]}"


def dots(points: Iterable[tuple[float, float]], class_: str) -> Markup:
    """Return many dots as one path, in a few bytes each; the class sets a round line cap and the width."""
    steps = "".join(f"M{plain(x)} {plain(y)}h0" for x, y in points)
    return element("path", d=steps, class_=class_) if steps else Markup("")
