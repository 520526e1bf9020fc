"""What is to be done about a job: pure functions of an Observation.

Nothing here reads a clock, opens a socket or keeps state: the caller observes, calls `decide`, and acts.
"""
