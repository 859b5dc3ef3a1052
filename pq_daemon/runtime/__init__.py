"""What every room stands on: signals, systemd's socket, the one periodic loop, logging, processes."""
