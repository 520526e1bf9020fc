"""Kubernetes for both sides: a thin client, an informer, a work queue, an election. Knows nothing of TrainingJobs."""
