"""What users of other systems complain about, and the tests that say that it cannot happen here.

Each complaint is tested where it would show: most at the API server, with kubelet and workers played
(integration/operator/test_complaints.py), some on the volume, some only with real nodes. A unit test sees to it that
every test named here exists.

 1  A dead node hangs its job for ever: kubeflow/trainer#2072, #720, #2185
      e2e/test_complaints.py::test_a_dead_node_does_not_hang_a_job_that_has_no_redundant_pod
      integration/operator/test_complaints.py::test_a_machine_that_dies_without_a_word_does_not_hang_its_job
 2  After kubectl delete pod the replacement never joins: kubeflow/trainer#2300, kubeflow/pytorch-operator#364
      integration/operator/test_complaints.py::test_a_pod_that_replaces_a_deleted_one_joins_and_takes_over_in_its_turn
      e2e/test_faults.py::test_a_redundant_pod_trains_on_after
 3  Deletion or preemption fails the whole job: kubeflow/trainer#999, #1560, #1570
      integration/operator/test_complaints.py::test_deletion_eviction_and_preemption_never_fail_a_job
 4  Status cannot be trusted: kubeflow/trainer#1711, kubeflow/common#214, volcano#1099
      integration/operator/test_complaints.py::test_the_status_counts_no_pod_that_is_terminating_and_is_made_anew
      unit/operator/test_status.py::TestCounts::test_redundant
      unit/operator/test_conditions.py::test_training_is_false_and_says_why
 5  A failed job comes back after a clean-up, with new tries: kubeflow/trainer#3737, #3779
      integration/operator/test_complaints.py::test_a_failed_job_is_neither_revived_by_a_clean_up_nor_given_new_tries
      e2e/test_ends.py::test_a_finished_job_is_removed_with_all_but_its_checkpoints_and_never_comes_back
 6  Old and new pods overlap: kubernetes/kubernetes#115844
      integration/operator/test_complaints.py::test_an_old_pod_beside_its_successor_is_never_primary_with_it_nor_heard
 7  Nothing fences writes of checkpoints: ray-project/kuberay#5211, ray-project/ray#64105
      unit/checkpoint/test_store.py::test_what_a_superseded_writer_commits_is_not_read
      e2e/test_storage.py::test_a_stale_writer_that_wakes_up_and_commits_after_its_successor_has_saved_changes_nothing
      e2e/test_faults.py::test_after_all_these_the_final_state_is_that_of_an_undisturbed_run_bit_for_bit
 8  Pods that are stuck Terminating inflate the recovery: kubernetes-sigs/jobset#576, #574
      integration/operator/test_complaints.py::test_a_pod_that_is_stuck_terminating_does_not_hold_its_rank_up
 9  How often it restarted, and why, is only in logs: ray-project/ray#61006
      integration/operator/test_complaints.py::test_how_often_and_why_a_rank_was_replaced_stands_in_its_status_and_events
      e2e/test_faults.py::test_failovers_are_listed_in_their_order_each_with_its_cause
10  Heartbeats lie: dlrover#1010, dlrover#1749, and one that stays fresh while the training hangs
      integration/operator/test_complaints.py::test_a_machine_that_dies_without_a_word_does_not_hang_its_job
      integration/operator/test_complaints.py::test_what_was_said_before_a_failover_kills_nobody_after_it
      e2e/test_stalls.py::test_a_deadlock_within_a_batch_is_a_stall_and_training_goes_on_after_it
11  Spares and restarts race: nvidia-resiliency-ext#348, volcano#4814, #5385
      integration/operator/test_complaints.py::test_a_rank_that_loses_its_primary_and_its_spare_at_once_gets_one_of_each
      integration/operator/test_leases.py::test_a_slot_is_given_to_one_pod_although_two_operators_fill_it
12  The newest checkpoint is unusable after a crash: keras-team/keras#20463
      unit/checkpoint/test_crash.py::test_after_a_crash_before_any_call_the_newest_commit_is_read_and_training_goes_on
      e2e/test_bad_input.py::test_a_damaged_newest_checkpoint_is_passed_over_and_said
13  Primaries and standbys: two pods labelled primary (zalando/postgres-operator#2854), split brain
    (cloudnative-pg#7407), a failover that never fires (cloudnative-pg#6091), a slow API server that costs a healthy
    primary its role (patroni#3462, #3344), a volume that has to be detached first (longhorn#2863)
      integration/operator/test_complaints.py::test_an_old_pod_beside_its_successor_is_never_primary_with_it_nor_heard
      integration/operator/test_leases.py::test_of_two_operators_that_promote_at_once_one_is_refused_and_learns_what_stands
      integration/operator/test_complaints.py::test_a_failover_fires_although_the_claim_was_deleted_with_the_primary
      integration/operator/test_operator.py::test_a_failure_while_the_operator_is_down_is_acted_on_when_it_is_back
      e2e/test_api_outage.py::test_an_outage_of_the_api_server_costs_no_primary
      e2e/test_api_outage.py::test_an_api_server_that_takes_two_seconds_for_each_call_costs_no_primary
      e2e/test_cut_off.py::test_when_no_worker_is_heard_none_is_replaced_and_all_train_on
      e2e/test_claims.py::test_on_a_volume_of_one_node_all_pods_stand_there_and_the_job_says_what_that_means
14  A launcher starts a failing script again for ever, and nobody sees it: NVIDIA/srt-slurm#451, kubeflow/trainer#1589
      integration/operator/test_complaints.py::test_a_launcher_that_starts_a_failing_script_again_for_ever_ends_its_job
      integration/agent/test_agent.py::test_a_trainer_that_a_launcher_starts_again_goes_on_and_each_failure_is_told
15  An exception is lost because a thread keeps the process: microsoft/dpu-utils#53, DataBiosphere/toil#2998
      integration/agent/test_agent.py::test_a_trainer_that_fails_and_lives_on_is_ended_with_its_last_words
      integration/agent/test_agent.py::test_a_failure_in_a_pipe_is_one_although_the_shell_exits_0

One thing is not promised: where the volume can be mounted on one node only, the loss of that node stops the training
until it returns. Nothing has to be detached there, since all pods of the job stand on it.
"""

import pytest

from testbed import Testbed, faults, operator
from tests.e2e import jobs, see

pytestmark = pytest.mark.cluster

JOB = "alone"
LEASE_S = 6
TRAINS_AGAIN_WITHIN_S = 180
"""Kubernetes takes 40 to 55 s to call a node NotReady, which a cold start waits for; then a pod has to start."""


def test_a_dead_node_does_not_hang_a_job_that_has_no_redundant_pod(bed: Testbed) -> None:
    """The pod of the dead node stays Terminating, and the job ends without it."""
    safe = operator.node(bed.kube)
    see.kubectl(bed, "cordon", safe)
    try:
        bed.apply(jobs.job(JOB, redundancy=0, lease_s=LEASE_S, arguments={"save_every": 50, "pace": 0.02}))
        (before,) = bed.wait_settled(JOB)
    finally:
        see.kubectl(bed, "uncordon", safe)
    dead = bed.primary(JOB, 0)
    faults.POWER_CUT.aim(bed, dead)()
    try:
        bed.wait_until(
            lambda: (now := bed.world.rank(JOB, 0)).term > before.term and now.training,
            timeout_s=TRAINS_AGAIN_WITHIN_S,
            what="a primary on another node",
        )
        jobs.finish(bed, JOB)
        (failover,) = see.wait_phase(bed, JOB, "Succeeded").failovers
        assert (failover.cause, failover.source, failover.cold) == ("LeaseExpired", dead.name, True)
        assert "deletionTimestamp" in see.pod(bed, dead.name)["metadata"]
    finally:
        faults.POWER_CUT.undo(bed, dead.node)
