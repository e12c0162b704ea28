"""From the aggregate to the next model version.

A strategy sees sums only and is pure numpy, element by element, so that the coordinator and every site compute the same
bytes (PROTOCOLS R5). `strategy` turns an aggregate into the next model, `registry` knows the names a plan may use.
"""
