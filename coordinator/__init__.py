"""The service that schedules rounds, adds masked updates, publishes model versions and keeps the log.

It never dials a hospital and never imports torch. Folder = layer: `api` translates, the nouns here and `rounds` decide,
`storage` and `blobs` remember, `cli` is what an administrator types.
"""
