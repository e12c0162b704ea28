"""The hospital's side of a round: one file per phase, named like its contract in `shared/protocol`.

Phase functions answer work with plain calls, `answer(session, work, now)`; `machine.py` says what may follow what, and
the database's constraints say it again.
"""
