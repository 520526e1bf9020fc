"""Trace the steps of models with state of their own, and print the variables in the order in which they are saved."""

import json
import os

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

import keras
import tensorflow as tf
from models import MODELS, SEED, batch
from understudy.keras.state import KerasState
from understudy.keras.step_random import StepRandom
from understudy.keras.step_trace import trace


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
keras.utils.set_random_seed(SEED)
drawn = StepRandom()
starts = [str(state.numpy().tolist()) for state in (drawn.eager_state, drawn.global_state)]
print("RESULT", json.dumps({"order": [*starts, *(line for name in names for line in order(name))]}))
