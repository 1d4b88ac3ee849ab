"""One job, start to end: `session` is the door."""
