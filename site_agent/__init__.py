"""The daemon inside a hospital. It dials out only, opens no listening socket, and sends nothing but masked sums.

Patient data is read by `datasets`, used by `training` in a child process, and never leaves either. The agent's own
process does not import torch.
"""
