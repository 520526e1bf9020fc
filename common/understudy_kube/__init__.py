"""Kubernetes for both sides: credentials, a thin client, an informer, a work queue. Knows nothing of TrainingJobs."""
