"""understudy.keras.train. TensorFlow is imported in processes of their own, one for each group of tests."""

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.tensorflow

HERE = Path(__file__).parent
PATIENCE_S = 600.0
"""A hang becomes a failure; a slow machine does not."""
MODELS = (
    "batch_normalization",
    "dropout",
    "unseeded_noise",
    "mixed_precision",
    "moving_average",
    "lazily_built",
    "own_optimizer",
    "stateful_rnn",
    "tensorflow_noise",
    "own_variables",
)
RESUMED_AT = dict.fromkeys(MODELS, 13) | {
    "scheduled, handed over within an epoch": 13,
    "scheduled, handed over between epochs": 15,
    "scheduled, crashed, saved within an epoch": 10,
    "scheduled, crashed, saved between epochs": 10,
    "scheduled, crashed in the first epoch": 0,
}
"""By the case of pod.py: the steps of the checkpoint that the second pod goes on from."""


def results(script: str, *arguments: str, **more: str) -> list[dict[str, Any]]:
    """Run a script in a process of its own, with `more` in its environment; give what it printed as results."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("UNDERSTUDY_")} | more
    done = subprocess.run(
        [sys.executable, str(HERE / script), *arguments],
        env=environment,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    lines = [line.removeprefix("RESULT ") for line in done.stdout.splitlines() if line.startswith("RESULT ")]
    return [json.loads(line) for line in lines]


@pytest.fixture(scope="module")
def failovers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    found = results("pod.py", str(tmp_path_factory.mktemp("pods")), *RESUMED_AT)
    return {result["case"]: result for result in found}


@pytest.fixture(scope="module")
def features(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    found = results("features.py", str(tmp_path_factory.mktemp("features")))
    return {result["feature"]: result["result"] for result in found}


@pytest.mark.parametrize("case", RESUMED_AT)
def test_a_training_with_a_failover_ends_bit_for_bit_as_an_undisturbed_one(
    failovers: dict[str, dict[str, Any]], case: str
) -> None:
    """Weights, optimizer, metrics and seeds; the redundant pod had warmed up with a step of its own."""
    result = failovers[case]
    assert result["first"] == RESUMED_AT[case] + 1, "it goes on with the step after the newest checkpoint"
    assert result["arrays"] > 10
    assert result["different"] == []


def test_callbacks_with_a_state_go_on_counting(features: dict[str, Any]) -> None:
    assert features["callbacks_go_on_counting"] == [0, 1, 2, 3]


def test_a_resumed_callback_is_told_of_its_epoch_and_what_it_did_to_the_state_counts_once(
    features: dict[str, Any],
) -> None:
    first, second, begun, rate = features["a_resumed_callback_is_told_of_its_epoch"]
    assert first == ["train", "begin 0", "end 0", "begin 1", "end 1", "begin 2"]
    assert second == ["train", "begin 2", "end 2", "begin 3", "end 3"]
    assert begun == [0, 1, 2, 3]
    assert rate == pytest.approx(0.001 * 0.5**4)


def test_a_callback_is_told_of_the_epoch_whose_validation_is_made_up_for(features: dict[str, Any]) -> None:
    told, begun = features["a_callback_is_told_of_the_epoch_whose_validation_is_made_up_for"]
    assert told == ["train", "begin 0", "end 0", "begin 1", "end 1", "begin 2", "end 2", "begin 3", "end 3"]
    assert begun == [0, 1, 2, 3]


def test_a_training_that_has_ended_begins_no_epoch(features: dict[str, Any]) -> None:
    assert features["a_training_that_has_ended_begins_no_epoch"] == [[0, 1], [0, 1], [0, 1, 2, 3]]


def test_a_made_up_validation_ends_the_training_where_it_would_have_ended(features: dict[str, Any]) -> None:
    assert features["a_made_up_validation_ends_the_training_where_it_would_have_ended"] == [5, [5, 5], True]


def test_a_callback_can_end_a_training_before_its_first_step(features: dict[str, Any]) -> None:
    assert features["a_callback_can_end_a_training_before_its_first_step"] == [0, []]


def test_early_stopping_counts_across_a_resume_and_ends_the_training_for_good(features: dict[str, Any]) -> None:
    assert features["early_stopping_counts_across_a_resume_and_ends_the_training"] == [20, 20]


def test_an_interrupted_validation_is_made_up_for(features: dict[str, Any]) -> None:
    assert features["an_interrupted_validation_is_made_up_for"] == [5, [0, 1, 2, 3], True]


def test_the_trained_model_can_be_loaded(features: dict[str, Any]) -> None:
    assert features["the_trained_model_can_be_loaded"] is True


def test_a_callback_is_told_of_a_validation_and_what_it_changes_for_it_is_not_saved(features: dict[str, Any]) -> None:
    result = features["a_callback_is_told_of_a_validation_and_what_it_changes_for_it_is_not_saved"]
    whole = ["begin", "batch 0", "batch 1", "end"]
    assert result == [whole, [], whole, True]


def test_a_stop_amid_an_epoch_ends_the_epoch_also_in_the_pod_that_validates_it(features: dict[str, Any]) -> None:
    assert features["a_stop_amid_an_epoch_ends_the_epoch"] == [7, [[0, True], [1, True]], 7, [[0, True]]]


def test_the_exported_model_is_the_one_that_fit_gives(features: dict[str, Any]) -> None:
    """Averages of the weights first, beneath a LossScaleOptimizer as well; then what a callback puts back."""
    assert features["the_exported_model_is_the_one_that_fit_gives"] == [True, True, True]


def test_a_callback_that_fails_at_the_end_is_named_and_is_no_trouble_of_the_volume(features: dict[str, Any]) -> None:
    sentence, step = features["a_callback_that_fails_at_the_end_is_named"]
    assert sentence.startswith("a callback's on_train_end raised FileNotFoundError:")
    assert step == 20


def test_a_batch_that_raises_is_named_and_the_last_checkpoint_stays(features: dict[str, Any]) -> None:
    sentence, step = features["a_batch_that_raises_is_named"]
    assert sentence == "batch(step=7, rank=0, ranks=1) raised ValueError: no more data"
    assert step == 5


def test_odd_batches_are_trained_on(features: dict[str, Any]) -> None:
    step, said = features["odd_batches_are_trained_on"]
    assert step == 20
    (once,) = said
    assert once.startswith(
        "batch(step=7) has shapes 3×8, 3 where earlier batches had shapes 16×8, 16: TensorFlow traces"
    )


def test_a_batch_that_does_not_fit_the_model_is_named_with_both_shapes(features: dict[str, Any]) -> None:
    sentence = features["a_batch_that_does_not_fit_the_model_is_named"]
    assert sentence.startswith(
        "the model, trained on batches of shapes 16×8, 16, on batch(step=7) of shapes 16×5, 16 raised "
    )
    assert "Matrix size-incompatible" in sentence


def test_a_snapshot_is_not_changed_by_later_steps(features: dict[str, Any]) -> None:
    assert features["a_snapshot_is_not_changed_by_later_steps"] == [True, True]


def test_a_changed_model_is_refused(features: dict[str, Any]) -> None:
    assert "does not fit this model" in features["a_changed_model_is_refused"]
    assert "fresh=True" in features["a_changed_model_is_refused"]


def test_train_gives_what_fit_gives_whatever_the_step_touches(features: dict[str, Any]) -> None:
    """Among them numbers of tf.random, which a generator draws as the kernel would have drawn them."""
    assert features["train_gives_what_fit_gives"] == []


def test_a_batch_of_one_array_reaches_the_step_as_it_is(features: dict[str, Any]) -> None:
    assert features["a_batch_of_one_array_reaches_the_step_as_it_is"] == [20, 8]


def test_validation_takes_what_fit_takes(features: dict[str, Any]) -> None:
    assert features["validation_takes_what_fit_takes"] == [4, True]


def test_a_validation_that_cannot_be_repeated_is_told_once(features: dict[str, Any]) -> None:
    told = features["a_validation_that_cannot_be_repeated_is_told"]
    assert {name: len(sentences) for name, sentences in told.items()} == {
        **dict.fromkeys(("plain", "shuffled once", "augmented by a seed"), 0),
        **dict.fromkeys(("shuffled", "shuffled by a function", "within", "drawn", "unordered"), 1),
    }
    for name in ("shuffled", "shuffled by a function", "within"):
        assert "the validation dataset shuffles its elements anew each time it is read" in told[name][0]
    assert "draws random numbers from a state inside TensorFlow (RandomUniform)" in told["drawn"][0]
    assert "in no certain order" in told["unordered"][0]


def test_wrong_validations_are_refused_before_the_first_step(features: dict[str, Any]) -> None:
    (endless, iterator, generator, number, parts), begun = features[
        "wrong_validations_are_refused_before_the_first_step"
    ]
    assert "never ends" in endless and "use take(n)" in endless
    assert all("can be read only once: give (x, y)" in sentence for sentence in (iterator, generator))
    assert number.startswith("validation is a int: give (x, y)")
    assert parts == "validation has 4 parts: give (x, y) or (x, y, sample_weight)"
    assert begun == []


def test_a_batch_that_is_no_pure_function_is_told(features: dict[str, Any]) -> None:
    (impure,), pure = features["a_batch_that_is_no_pure_function_is_told"]
    assert "batch(step=0) returned other data when it was called a second time" in impure
    assert pure == []


def test_what_cannot_be_repeated_is_told(features: dict[str, Any]) -> None:
    step, variables = features["what_cannot_be_repeated_is_told_before_the_first_step"]
    assert "calls Python code (tf.py_function or tf.numpy_function) that may keep a state (EagerPyFunc)" in step
    assert "draws random numbers from a state inside TensorFlow (UniformCandidateSampler)" in step
    assert variables.endswith("no checkpoint can hold variables of this type: Variable:0 (string)")


def test_a_variable_that_cannot_be_saved_is_named_once(features: dict[str, Any]) -> None:
    assert features["a_variable_that_cannot_be_saved_is_named_once"] == ["Variable:0"]


def test_a_step_that_only_runs_eagerly_is_trained_and_told(features: dict[str, Any]) -> None:
    (told,), same = features["a_step_that_only_runs_eagerly_is_trained"]
    assert "only variables and plain attributes are saved, and its training step runs eagerly" in told
    assert same


def test_attributes_that_an_eager_step_changes_are_kept(features: dict[str, Any]) -> None:
    """Of the model and of its layers, in Keras' own containers, too."""
    counts, equal, same, beta, told = features["attributes_that_an_eager_step_changes_are_kept"]
    assert counts == [20, 20, [20.0, 20.0], 20, 20]
    assert (equal, same, beta) == (True, True, 0.7)
    assert "no checkpoint can hold Phased.known (TextIOWrapper) of the model 'phased'" in told[1] and len(told) == 2


def test_attributes_of_a_model_that_a_callback_changes_are_kept_or_named(features: dict[str, Any]) -> None:
    *kept, (told,) = features["attributes_of_a_model_that_a_callback_changes_are_kept"]
    assert kept == [1, 4, "epoch 3", 20]
    assert "no checkpoint can hold Dense.file (TextIOWrapper)" in told


def test_a_model_that_cannot_be_saved_whole_is_saved_as_weights(features: dict[str, Any]) -> None:
    (told,), name, same = features["a_model_that_cannot_be_saved_whole_is_saved_as_weights"]
    assert told.startswith("the trained model could not be saved as model.keras: NotImplementedError: Object Called")
    assert (name, same) == ("model.weights.h5", True)


def test_a_model_that_cannot_be_saved_at_all_completes_its_training(features: dict[str, Any]) -> None:
    assert features["a_model_that_cannot_be_saved_at_all_completes_its_training"] == [2, 20, []]


def test_a_further_training_of_a_script_is_another(features: dict[str, Any]) -> None:
    """Started again, the script finds its first training finished, and goes on with the second."""
    assert features["a_further_training_of_a_script_is_another"] == [[20, 17], True, [20, 30]]


def test_a_learning_rate_that_the_script_changes_is_told(features: dict[str, Any]) -> None:
    unchanged, (told,) = features["a_learning_rate_that_the_script_changes_is_told"]
    assert unchanged == []
    assert "the script sets the learning rate 0.25, but this training began with 0.5" in told


def test_a_checkpoint_of_an_earlier_release_is_taken_and_what_it_lacks_is_named(features: dict[str, Any]) -> None:
    (told,) = features["a_checkpoint_of_an_earlier_release_is_taken"]
    assert "/iteration:0" in told and "earlier release" in told


def test_a_variable_of_a_callback_is_kept(features: dict[str, Any]) -> None:
    assert features["a_variable_of_a_callback_is_kept"] == 20


def test_csv_logger_keeps_each_row_once(features: dict[str, Any]) -> None:
    """The rows of epochs that are trained again are cut off first."""
    assert features["csv_logger_keeps_each_row_once"] == [["epoch", "0", "1", "2", "3"], True]


def test_history_has_every_epoch(features: dict[str, Any]) -> None:
    assert features["history_has_every_epoch"] == [[0, 1, 2, 3], True]


def test_early_stopping_goes_on_with_its_best_weights(features: dict[str, Any]) -> None:
    assert features["early_stopping_goes_on"] is True


def test_reduce_rate_on_plateau_goes_on(features: dict[str, Any]) -> None:
    (_, _, cooldown, rate), same = features["reduce_rate_on_plateau_goes_on"]
    assert (cooldown, same) == (1, True)
    assert rate < 1e-6, "it has reduced the rate several times"


def test_model_checkpoint_goes_on(features: dict[str, Any]) -> None:
    ((since, _, files), by_steps), best = features["model_checkpoint_goes_on"]
    assert (since, files) == (6, ["at-2.weights.h5", "at-3.weights.h5"])
    assert by_steps and best


def test_a_learning_rate_scheduler_goes_on(features: dict[str, Any]) -> None:
    assert features["schedules_go_on"] is True


def test_averages_are_swapped_as_in_an_undisturbed_run(features: dict[str, Any]) -> None:
    assert features["averages_are_swapped_as_in_an_undisturbed_run"] == [True, True]


def test_a_loss_that_is_no_number_ends_a_resumed_training_at_the_same_step(features: dict[str, Any]) -> None:
    assert features["nan_ends_a_resumed_training"] == [17, 17]


def test_backup_and_restore_is_left_out_and_that_is_said(features: dict[str, Any]) -> None:
    assert features["backup_and_restore_is_left_out"] == [True, False]


def test_tensorboard_goes_on_in_one_curve(features: dict[str, Any]) -> None:
    batches, epochs, losses, validations, same = features["tensorboard_goes_on_in_one_curve"]
    assert batches == 20
    assert epochs == validations == [0, 1, 2, 3]
    assert losses == list(range(1, 21))
    assert same


def test_a_callback_of_ones_own_keeps_its_attributes_and_its_random_numbers(features: dict[str, Any]) -> None:
    """Those of generators that it holds, of tf.random, and of the generators that the process shares."""
    _, drawn, same = features["a_callback_of_ones_own_keeps_its_attributes"]
    assert (drawn, same) == (180, True)


def test_callbacks_within_a_callback_are_kept(features: dict[str, Any]) -> None:
    """In an attribute, a list, an object, and in what on_train_begin makes; with their files, and nothing is told."""
    assert features["callbacks_within_a_callback_are_kept"] == [20, 4, 5, True, False]


def test_a_file_of_a_callback_that_is_made_as_training_begins_is_told(features: dict[str, Any]) -> None:
    (told,) = features["a_file_of_a_callback_that_is_made_late_is_told"]
    assert "the files of CSVLogger: make it before training begins" in told


def test_what_the_script_sets_anew_is_the_scripts(features: dict[str, Any]) -> None:
    assert features["what_the_script_sets_anew_is_the_scripts"] == [7, 20]


def test_what_a_callback_cannot_keep_is_told_unless_it_offers_a_state(features: dict[str, Any]) -> None:
    counts, (told,), kept = features["what_a_callback_cannot_keep_is_told"]
    assert counts == [4, True]
    assert "no checkpoint can hold Opens.file (TextIOWrapper) of the callbacks" in told
    assert kept == []


def test_a_lost_file_of_a_callback_is_told(features: dict[str, Any]) -> None:
    (told,) = features["a_lost_file_of_a_callback_is_told"]
    assert "history.csv is missing" in told


def test_plain_values_come_back_and_others_are_named_with_their_place(features: dict[str, Any]) -> None:
    unequal, kept, same, *said, count = features["plain_values_come_back_and_others_are_named"]
    assert unequal == []
    assert kept == [[[1, 2]], "int16", pytest.approx(0.1), [1.0]]
    assert same, "an object of a class is not made anew"
    assert said == [".x['a'][1] (TextIOWrapper)", ".x (ndarray)", ".x['b'] (tuple_iterator)"]
    assert count == 4, "one that holds itself, too"


def test_nothing_is_told_of_keras_own_callbacks(features: dict[str, Any]) -> None:
    assert features["nothing_is_told_of_keras_own_callbacks"] == []


def test_plateaus_and_stops_count_alike_with_their_defaults(features: dict[str, Any]) -> None:
    assert features["plateaus_and_stops_count_alike_with_their_defaults"] == [True, True]


def test_variables_that_a_callback_makes_as_training_begins_are_kept(features: dict[str, Any]) -> None:
    """And a counter that has come back to the value that its constructor gave it."""
    assert features["variables_that_a_callback_makes_as_training_begins_are_kept"] == [0, True]


def test_odd_attributes_are_kept_or_told(features: dict[str, Any]) -> None:
    """A list that the script holds as well is filled; a long list of dicts does not outgrow a manifest."""
    seen, same, steps, record, told = features["odd_attributes_are_kept_or_told"]
    assert seen == ["step-20", 9000]
    assert (same, steps, record, told) == (True, 20, True, True)


def test_an_offered_state_is_plain_data_not_json_alone(features: dict[str, Any]) -> None:
    assert features["an_offered_state_is_plain_data_not_json_alone"] == ["{0: inf}", True]


def test_logs_in_dicts_are_logged(features: dict[str, Any]) -> None:
    assert features["logs_in_dicts_are_logged"] == ["half", "loss"]


def test_arrays_of_float64_are_validated_as_fit_does(features: dict[str, Any]) -> None:
    assert features["arrays_of_float64_are_validated_as_fit_does"] == 4


def test_a_compiled_step_draws_shuffles_and_categories(features: dict[str, Any]) -> None:
    assert features["a_compiled_step_draws_shuffles_and_categories"] is True


def test_every_process_names_the_variables_of_a_step_alike_and_begins_with_the_same_random_numbers() -> None:
    """Whatever the seed of Python's hashes: the order of a set would differ between them. The script's seed is one."""
    ran = [results("order.py", PYTHONHASHSEED=seed)[0]["order"] for seed in ("1", "2", "3")]
    assert len(ran[0]) > 8
    assert ran[1:] == [ran[0], ran[0]]


OLDEST = (HERE / "oldest-keras.txt").read_text().split("==")[1].split()[0]


@pytest.fixture(scope="module")
def oldest_keras() -> Path:
    """Install the oldest supported Keras into the cache, without touching the environment of the tests."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "understudy" / f"keras-{OLDEST}"
    if not cache.is_dir():
        cache.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache.parent) as temporary:
            install = ["-m", "uv", "pip", "install", "--quiet", "--no-deps", "--require-hashes", "--target", temporary]
            subprocess.run([sys.executable, *install, "-r", str(HERE / "oldest-keras.txt")], check=True)
            with contextlib.suppress(OSError):  # another process was faster
                Path(temporary).rename(cache)
            Path(temporary).mkdir(exist_ok=True)
    return cache


def test_the_oldest_keras_that_is_supported_is_tested() -> None:
    project = tomllib.loads((HERE.parents[2] / "pyproject.toml").read_text())["project"]
    assert f"keras>={OLDEST.removesuffix('.0')},<4" in project["optional-dependencies"]["tensorflow"]


def test_a_training_with_a_failover_ends_alike_on_the_oldest_keras(
    oldest_keras: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    cases = ("lazily_built", "own_optimizer", "stateful_rnn", "scheduled, handed over within an epoch")
    folder = str(tmp_path_factory.mktemp("old"))  # short: a socket's path has 107 characters at most
    ran = results("pod.py", folder, *cases, PYTHONPATH=str(oldest_keras))
    assert [(result["case"], result["keras"], result["different"]) for result in ran] == [
        (case, OLDEST, []) for case in cases
    ]


def test_train_gives_what_fit_gives_on_the_oldest_keras(oldest_keras: Path, tmp_path: Path) -> None:
    names = ("train_gives_what_fit_gives", "validation_takes_what_fit_takes")
    ran = results("features.py", str(tmp_path), *names, PYTHONPATH=str(oldest_keras))
    assert [result["result"] for result in ran] == [[], [4, True]]


def test_wrong_arguments_are_explained(features: dict[str, Any]) -> None:
    dataset, uncompiled = features["wrong_arguments_are_explained"]
    assert "must be a function batch(step, rank, ranks)" in dataset
    assert "is not compiled: call model.compile" in uncompiled
