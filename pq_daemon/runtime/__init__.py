"""What every room stands on: signals, systemd's socket, the periodic loop, logging, processes."""
