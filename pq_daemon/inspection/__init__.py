"""Looking without touching: why a path is (not) picked up, whether all that is needed is there.

The daemon looks with its own eyes when it is asked; a command looks for itself when no daemon runs.
Nothing here changes anything, but for a probe file that is written, renamed and removed at once.
"""
