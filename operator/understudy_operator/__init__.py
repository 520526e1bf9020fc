"""The operator: watches TrainingJobs and keeps a warm understudy beside every primary."""
