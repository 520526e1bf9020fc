"""Every wire name and encoding that the operator and the worker share.

Guarantees that both sides speak of the same label, annotation, environment variable and Lease. Reads no clock, opens no
socket and imports nothing of ours.
"""
