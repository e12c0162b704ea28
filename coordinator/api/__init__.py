"""The two listeners: agents with client certificates, operators with tokens. Edges translate; they decide nothing."""
