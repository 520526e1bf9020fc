"""What seeds have found that only one in many thousands finds: each fix, taken out, makes its seed fail again."""

from understudy.checkpoint.store import RankStore
from understudy_kube.informer import Informer
from understudy_operator.act import Actor
from understudy_operator.core import decide, detection, status
from understudy_operator.observe import World

from tests.simulation.mutants import Edit, Mutant

FIXES: tuple[Mutant, ...] = (
    Mutant(
        "of workers that are all cut off, one does not count whose start a restored etcd has forgotten",
        7,
        404205,
        (
            Edit(
                World._at_work,
                "pod.trainer is None or pod.trainer.terminated is None",
                "pod.trainer is not None and pod.trainer.running is not None",
            ),
        ),
    ),
    Mutant(
        "two pods begin one term after a restore, of which the second believes old names around it",
        1,
        405614,
        (
            Edit(
                RankStore.begin,
                "        self._stop_if_taken(term, pod_uid)\n        return writer",
                "        return writer",
            ),
        ),
    ),
    Mutant(
        "a pod whose report comes before the watch tells of the pod is taken for one that is gone",
        7,
        407058,
        (Edit(detection.judge_primary, "if unborn:", "if unborn and not lease.acknowledged:"),),
    ),
    Mutant(
        "names of before and after a term came to count, believed together, look like a rank without checkpoints",
        11,
        411507,
        (Edit(RankStore.newest, "(hollow or (stuck and not problems))", "hollow"),),
    ),
    Mutant(
        "a bookmark is taken for the end of an outage",
        7,
        500985,
        (Edit(Informer._watch, 'if event.type != "BOOKMARK":', "if True:"),),
    ),
    Mutant(
        "a job is over before the labels have followed its last promotion, and they never do",
        8,
        600394,
        (Edit(decide.decide, "rest += [a for a in labels(view) if Role.PRIMARY in (a.role, a.pod.role)]", "pass"),),
    ),
    Mutant(
        "the late answer to a renewal from before a restore hides from its leader what stands there",
        14,
        11414,
        (Edit(Informer.ask, ", asked=self._versions.get((namespace, name)) == before", ""),),
    ),
    Mutant(
        "an operator that has not seen the end of a job writes an older status over it",
        6,
        1055571,
        (Edit(Actor._write_status, ', "resourceVersion": job.resource_version', ""),),
    ),
    Mutant(
        "a renewal that arrives after the release takes the last step back in the status",
        15,
        618,
        (Edit(status._step, "max(beat.step, last.step)", "beat.step"),),
    ),
)
