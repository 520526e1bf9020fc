"""A training in one pod: `Session`, and the trainer's end of the socket to the agent. Imports no framework."""
