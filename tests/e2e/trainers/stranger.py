"""Imports nothing of understudy, and runs for a while."""

import time

print("I train in my own way", flush=True)
time.sleep(3600)
