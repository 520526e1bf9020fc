"""Numbers in annotations, which anybody with the right to write a Lease or a pod may garble."""

import json

import pytest
from understudy_contract.lease import decode_lease, natural
from understudy_contract.names import Annotation, is_lease_name, lease_names

GARBLED = ["²", "٣", "9" * 5000, "9" * 19, "-1", "+1", "1e3", "1_0", " 1", ""]


@pytest.mark.parametrize("text", GARBLED, ids=lambda text: ascii(text)[:12])
def test_what_is_no_number_is_none(text: str) -> None:
    assert natural(text) is None


@pytest.mark.parametrize(("text", "number"), [("0", 0), ("12", 12), ("007", 7), ("9" * 18, 10**18 - 1)])
def test_a_number_is_read(text: str, number: int) -> None:
    assert natural(text) == number


@pytest.mark.parametrize("text", GARBLED, ids=lambda text: ascii(text)[:12])
def test_a_lease_of_garbled_numbers_is_one_without_them(text: str) -> None:
    numbers = dict.fromkeys((Annotation.INCARNATION, Annotation.FAILURES, Annotation.SWITCHOVER), text)
    meta = {"name": "digits-0", "namespace": "n", "uid": "u", "resourceVersion": "7", "annotations": numbers}
    record = decode_lease(json.dumps({"metadata": meta}).encode())
    assert (record.incarnation, record.failures, record.switchover) == (0, 0, None)


@pytest.mark.parametrize(("job", "ranks"), [("digits", 12), ("a-1", 1), ("vote", 256)])
def test_the_names_of_a_jobs_leases_are_told_from_all_others(job: str, ranks: int) -> None:
    ours = lease_names(job, ranks)
    assert all(is_lease_name(name, job, ranks) for name in ours)
    odd = [
        f"{job}-{ranks}",
        f"{job}-0-s5",
        f"{job}-0-s",
        f"{job}-00",
        f"{job}--1",
        f"{job}-",
        job,
        f"x{job}-0",
        f"{job}-²",
    ]
    assert not any(is_lease_name(name, job, ranks) for name in (*odd, f"{job}-0\n", f"{job}-0-0", f"{job}-worker"))
