"""The bounded pool of consumers: claims jobs, runs their handlers, hands back how they ended."""
