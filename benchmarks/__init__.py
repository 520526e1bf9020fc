"""What a failover takes and what Understudy costs, measured on a real cluster from outside the operator."""
