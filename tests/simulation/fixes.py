"""What seeds have found that only one in many thousands finds: each fix, taken out, makes its seed fail again."""

from understudy_operator.core import decide

from tests.simulation.mutants import Edit, Mutant

FIXES: tuple[Mutant, ...] = (
    Mutant(
        "a job is over before the labels have followed its last promotion, and they never do",
        8,
        30001405,
        (Edit(decide._last_labels, "[a for a in labels(view) if Role.PRIMARY in (a.role, a.pod.role)]", "[]"),),
    ),
)
