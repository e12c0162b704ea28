"""What writes the generated pages: one file per source they are made from."""
