"""PID 1 of a worker's container: starts the trainer, holds the pod's Lease, passes orders on. Imports no TensorFlow."""
