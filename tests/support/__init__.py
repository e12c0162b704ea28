"""What tests share: a fake clock, builders, scripted peers and a tiny task. One file per noun, imported by name."""
