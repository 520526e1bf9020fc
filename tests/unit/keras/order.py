"""Trace the steps of models with state of their own, and print the variables in the order in which they are saved."""

import json
import os

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

import tensorflow as tf
from models import MODELS, batch
from understudy.keras_state import KerasState
from understudy.step_random import StepRandom
from understudy.step_trace import trace


def order(name: str) -> list[str]:
    model = MODELS[name]()
    data = tuple(map(tf.convert_to_tensor, batch(0, 0, 1)))
    model.make_train_function()
    with StepRandom().serving():
        traced = trace(model.train_function, data)
    state = KerasState(model, ())
    state.touch([traced])
    return [f"{key} {variable.path} {variable.shape}" for key, variable in state.variables().items()]


names = ("own_optimizer", "stateful_rnn", "own_variables", "tensorflow_noise")
print("RESULT", json.dumps({"order": [line for name in names for line in order(name)]}))
