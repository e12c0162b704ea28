"""The researcher's side: study files, the client, rehearsals on one machine, splits and benchmarks."""
