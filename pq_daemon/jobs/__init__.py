"""Pure knowledge of jobs: states and moves, order, retries, file versions. No I/O, no clock, no loop."""
