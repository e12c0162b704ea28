"""Secure aggregation SA1: the mathematics of one masked sum (PROTOCOLS A).

The coordinator learns the sum of the survivors' vectors and nothing about any single one. In reading order:

- `parameters`    n, t, c, m, q, b: which sizes leak nothing and overflow nothing (A3, A9)
- `layout`, `tail`, `packing`    where every number of a vector lies, in words, bytes and chunks (A8, A9)
- `quantization`, `checksum`    float32 updates to integers and back; what catches a wrong sum (A9)
- `shamir`        t-of-n sharing of the secrets a lost site leaves behind (A7)
- `pair_secrets`  every seed, key, commitment and share blob (A6, A7)
- `masking`       the site's one pass from update to masked chunks (A8)
- `opening`       released shares to secrets, or the name of who cheated (A7 R4)
- `unmasking`     the coordinator's one pass from masked chunks to the sum (A8)
- `roster`, `roster_form`, `certificate`    who takes part and which survivors t sites signed for (A4, A7 R2)

Nothing here knows a network, a database or a clock; randomness is an argument.
"""
