"""Chaos: four trainings on the real local cluster, every fault of `kinds` upon them, and a verdict.

    python -m chaos --seed 7 --minutes 30

The sequence of faults is a function of the seed alone (`draw`); what a real cluster does under it is not. Everything is
seen from outside the operator, as in `testbed`.
"""
