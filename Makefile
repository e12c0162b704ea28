# Thin names for `python bootstrap.py ...`, which does the work and also runs where there is no make (Windows).
# Another interpreter: `make demo PYTHON=python3.12`. More arguments: `make demo ARGS="--dataset heart-disease --data DIR"`.

PYTHON ?= python3
ARGS ?=

.PHONY: setup demo test lint bench docs evidence

setup:
	$(PYTHON) bootstrap.py setup $(ARGS)

demo:
	$(PYTHON) bootstrap.py demo $(ARGS)

test:
	$(PYTHON) bootstrap.py test $(ARGS)

lint:
	$(PYTHON) bootstrap.py lint $(ARGS)

bench:
	$(PYTHON) bootstrap.py bench $(ARGS)

docs:
	$(PYTHON) bootstrap.py docs $(ARGS)

evidence:
	$(PYTHON) bootstrap.py evidence $(ARGS)
