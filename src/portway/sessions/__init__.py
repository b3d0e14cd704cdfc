"""What outlives one request: legacy sessions, questions to the client, event logs, the change bus."""
