"""The durable floor: the newest checkpoint that anybody in the Lease says is committed."""

import json

from understudy_contract.lease import LeaseRecord, decode_lease, encode
from understudy_contract.names import Annotation, Term
from understudy_contract.reports import CheckpointRef, Heartbeat, Phase, Release


def lease(**annotations: str) -> LeaseRecord:
    notes = {str(Annotation[name.upper()]): text for name, text in annotations.items()}
    meta = {"name": "digits-0", "namespace": "n", "uid": "u", "resourceVersion": "7", "annotations": notes}
    return decode_lease(json.dumps({"metadata": meta, "spec": {"leaseTransitions": 2}}).encode())


def test_a_late_heartbeat_does_not_take_back_what_the_release_said() -> None:
    late = Heartbeat(pod="p", term=2, phase=Phase.TRAINING, checkpoint=CheckpointRef(2, 100, "old"))
    last = Release(Term(2), "HandedOver", 82, "saved step 117", CheckpointRef(2, 117, "new"))
    record = lease(heartbeat=encode(late), released=encode(last))
    assert record.floor == CheckpointRef(2, 117, "new")


def test_a_message_is_cut_and_a_damaged_release_is_none() -> None:
    long = Release(Term(2), "ProcessExited", 1, "x" * 5000)
    release = lease(released=encode(long)).release
    assert release is not None and len(release.message.encode()) == 1024
    assert lease(released="2:HandedOver:82:").release is None


def test_a_report_nested_without_end_is_none() -> None:
    nested = '{"pod":"p","term":2,"phase":"training","invented":' + "[" * 100_000 + "]" * 100_000 + "}"
    assert lease(heartbeat=nested).heartbeat is None
