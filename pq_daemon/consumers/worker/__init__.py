"""The program that Python handlers run in, apart from the daemon. Nothing in here imports it."""
