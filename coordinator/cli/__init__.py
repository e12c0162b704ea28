"""`mitral-coordinator`: `init` and `serve` touch the state directory, every other verb is a client of REST."""
