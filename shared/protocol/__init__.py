"""What travels between the coordinator, the sites and the researchers.

One file per noun or phase, types and their checks only.
"""
