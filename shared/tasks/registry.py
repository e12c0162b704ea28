"""From a plan's ``task`` object to the task and its network."""

from torch import nn

from shared.canonical import JsonObject
from shared.task_catalogue import ImageTask, LogisticRegression, Mlp, SmallCnn, TabularTask, task_spec
from shared.tasks.image_classification import ImageClassification
from shared.tasks.models import linear, mlp, resnet18, small_cnn
from shared.tasks.tabular import Tabular
from shared.tasks.task import Task, outputs_of


def build_task(task: JsonObject) -> Task:
    """Return the task a plan describes.

    Raises:
        InputError: ``task_invalid``.
    """
    spec = task_spec(task)
    return Tabular(spec) if isinstance(spec, TabularTask) else ImageClassification(spec)


def build_model(task: JsonObject) -> nn.Module:
    """Return a fresh network for the task; its weights come from torch's current generator.

    Raises:
        InputError: ``task_invalid``.
    """
    spec = task_spec(task)
    outputs = outputs_of(spec.classes)
    if isinstance(spec, ImageTask):
        if isinstance(spec.model, SmallCnn):
            return small_cnn.SmallCnn(spec.channels, outputs)
        return resnet18.ResNet18(spec.channels, outputs)
    features = len(spec.features)
    match spec.model:
        case LogisticRegression():
            return linear.LogisticRegression(features, outputs)
        case Mlp(hidden=hidden):
            return mlp.Mlp(features, hidden, outputs)
