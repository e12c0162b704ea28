"""The networks a plan may name. GroupNorm only: batch statistics would mix patients and differ between hospitals."""
