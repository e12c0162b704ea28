"""A whole federation on one machine: real processes, real TLS; and the float64 reference it is compared with."""
