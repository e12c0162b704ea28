"""A hospital's data sets: found, described, split and read. Without torch; nothing here leaves the hospital.

`registry.inspect` turns a path into a manifest (what is there, how it is split, a digest), `registry.load_part` reads
the cases of one part and refuses data that changed since. One module per form:
`csv_table`, `image_folder`, `image_array`.
"""
