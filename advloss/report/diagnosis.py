"""The sections of a diagnosis: the checks, success against epsilon and steps, attacks.

print(page.write("Diagnosis of lmcl", sections_of_diagnosis(diagnosis), "runs/lmcl/d"))
"""

from collections.abc import Sequence

from matplotlib.figure import Figure as Drawing

from advloss.evaluation.diagnosis.check import percent
from advloss.evaluation.diagnosis.verdict import Diagnosis
from advloss.report import figures, style, tables
from advloss.report.figures import Curve
from advloss.report.section import Figure, Section

_HOW = (
    "All checks are of the same images, and a figure is a share of them; the guide "
    "docs/diagnosis.md says how each is made."
)
_EPSILON = (
    "Accuracy under PGD within growing radii; it must fall, and reach 0 where any "
    "image is within reach. The triangle is what all attacks at {epsilon:g} leave."
)
_STEPS = (
    "Accuracy under the attack after every step, to twice its steps (from the dotted "
    "line on); a curve that still falls there is of an attack that has not converged."
)


def sections_of_diagnosis(diagnosis: Diagnosis) -> list[Section]:
    """What there is to say of a diagnosis; nothing of it for a terminal."""
    return [_verdict(diagnosis), _curves(diagnosis), _attacks(diagnosis)]


def _verdict(diagnosis: Diagnosis) -> Section:
    head = ["check", "figure", "threshold", "result", "a failure means", "source"]
    rows = [
        [
            each.name,
            percent(each.figure),
            each.limit,
            each.result,
            f"{each.meaning} ({each.reason})" if each.reason else each.meaning,
            each.source,
        ]
        for each in diagnosis.checks
    ]
    records = [
        {"part": "check", **each._asdict(), "result": each.result}
        for each in diagnosis.checks
    ]
    notes = [diagnosis.sentence, _HOW]
    return Section("The verdict", [head, *rows], notes, records=records, terminal=())


def _curves(diagnosis: Diagnosis) -> Section:
    radii, within = diagnosis.by_epsilon
    title = "PGD on the training loss"
    drawing = figures.against_epsilon(
        [Curve(title, list(radii), list(100 * within))], diagnosis.norm
    )
    worst, lowest = style.worst(), 100 * diagnosis.robust_accuracy
    drawing.axes[0].plot(
        diagnosis.epsilon, lowest, worst.marker, color=worst.colour, zorder=3
    )
    steps, after = diagnosis.by_steps
    drawn = [
        Figure("epsilon", drawing, _EPSILON.format(epsilon=diagnosis.epsilon)),
        Figure("steps", _against_steps(list(steps), list(100 * after)), _STEPS),
    ]
    records = [
        *(
            {"part": "epsilon", "epsilon": float(radius), "accuracy": float(left)}
            for radius, left in zip(radii, within, strict=True)
        ),
        *(
            {"part": "steps", "steps": int(step), "accuracy": float(left)}
            for step, left in zip(steps, after, strict=True)
        ),
    ]
    return Section(
        "Success against epsilon and steps",
        figures=drawn,
        records=records,
        terminal=(),
    )


def _against_steps(steps: Sequence[float], accuracies: Sequence[float]) -> Drawing:
    figure = style.new(3.0)
    axes = figure.subplots()
    look = style.look(0)
    axes.step(steps, accuracies, where="post", color=look.colour, linestyle=look.line)
    axes.axvline(steps[-1] / 2, color="grey", linestyle=":", linewidth=1)
    axes.set_xlabel("steps")
    axes.set_ylabel("accuracy (%)")
    axes.set_xlim(0, steps[-1])
    axes.set_ylim(0, 102)
    style.tidy(axes, "both")
    return figure


def _attacks(diagnosis: Diagnosis) -> Section:
    count = len(diagnosis.natural)
    found = {
        "natural": float(diagnosis.natural.mean()),
        **diagnosis.attacks,
        "all together": diagnosis.robust_accuracy,
    }
    rows = [[name, f"{100 * left:.1f}"] for name, left in found.items()]
    records = [
        {"part": "attack", "attack": name, "accuracy": left, "images": count}
        for name, left in found.items()
    ]
    note = (
        f"Each attack by itself on the same {count:,} images, {diagnosis.norm}, "
        f"epsilon {diagnosis.epsilon:g}. An image counts as lost if any iterate fools. "
        "The best attack is the one that leaves least."
    )
    table: tables.Table = [["attack", "accuracy %"], *rows]
    title = "What each attack leaves"
    return Section(title, table, [note], records=records, terminal=())
