"""Ends well, without training anything."""

print("nothing to do", flush=True)
