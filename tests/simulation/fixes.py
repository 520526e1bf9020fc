"""What seeds have found that only one in many thousands finds: each fix, taken out, makes its seed fail again."""

from understudy.checkpoint.store import RankStore
from understudy_kube.informer import Informer
from understudy_operator import reconcile
from understudy_operator.core import decide, status

from tests.simulation.mutants import Edit, Mutant

FIXES: tuple[Mutant, ...] = (
    Mutant(
        "an operator that is heard again removes pods for a suspension that was taken back long before",
        7,
        12107092,
        (Edit(reconcile.needs_asking, " or (job.policy.suspend and isinstance(action, DeletePod))", ""),),
    ),
    Mutant(
        "two pods begin one term after a restore, of which the second believes old names around it",
        1,
        5022426,
        (
            Edit(
                RankStore.begin,
                "        self._stop_if_taken(term, pod_uid)\n        return writer",
                "        return writer",
            ),
        ),
    ),
    Mutant(
        "a job is over before the labels have followed its last promotion, and they never do",
        8,
        30001405,
        (Edit(decide._last_labels, "[a for a in labels(view) if Role.PRIMARY in (a.role, a.pod.role)]", "[]"),),
    ),
    Mutant(
        "the late answer to a renewal from before a restore hides from its leader what stands there",
        14,
        5251467,
        (Edit(Informer.ask, ", asked=self._versions.get((namespace, name)) == before", ""),),
    ),
    Mutant(
        "an operator that has not seen the end of a job takes its steps back in the status",
        15,
        10111910,
        (Edit(status._rank, " or (job_complete(observation) and not rank_complete(view))", ""),),
    ),
)
