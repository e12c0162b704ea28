"""`mitral-site`: one file per noun. Only `run` and `enrol` use the network, the others the state directory."""
