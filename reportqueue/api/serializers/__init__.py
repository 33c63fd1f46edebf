"""The shapes of requests and answers, with their bounds."""
