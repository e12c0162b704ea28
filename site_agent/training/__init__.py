"""Training in a child process: one per study, kept warm, given data and weights, returning one file.

`launcher` starts, watches and stops the child and imports no torch; `worker` is the child; `local_steps` and
`evaluation` are what it computes, as plain functions that rehearsals use too.
"""
