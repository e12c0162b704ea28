"""One command per figure of docs/development/benchmarks.md."""
