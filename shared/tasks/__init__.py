"""The learning tasks in torch: what a case looks like to a model, its loss and its scores. `shared` has no other torch.

Site agents load this in their training child, the workbench to build first model versions and to rehearse; the
coordinator never does (ADR 0002). `registry` builds a task or a model from a plan's ``task`` object; names and ranges
stand in `shared/task_catalogue.py`.
"""
