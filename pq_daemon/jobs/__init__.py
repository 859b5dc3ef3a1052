"""Pure knowledge of jobs: states, moves, order, retries, file versions. No I/O, no clock."""
