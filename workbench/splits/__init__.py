"""The demo data sets, cut into hospitals: each module writes files as a hospital would have them and proposes a study.

`write(folder, source, sites, seed)` returns what each hospital's steward would register; `default_settings()` returns
the parts of a study protocol (task, training, ...) that suit the data.
"""
