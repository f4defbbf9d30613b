import pytest

from simulated_llm.settings import DEFAULT_SLOTS, PRECISIONS, Precision, Settings, model, parameters


def test_nothing_given_is_the_defaults() -> None:
    found = model({}, {})
    assert (Settings(), 0.008) == (found.settings, found.step_s)


def test_a_precision_makes_it_faster_and_less_exact() -> None:
    plain = model({}, {"HEADGATE_QUANTIZATION": "none"})
    small = model({}, {"HEADGATE_QUANTIZATION": "nvfp4"})
    assert small.step_s < plain.step_s
    assert small.drift.share > plain.drift.share


def test_variants_of_one_precision_say_the_same() -> None:
    plain = model({}, {"HEADGATE_VARIANT": "plain"})
    fast = model({"speculative_config": {"max_draft_len": 3}}, {"HEADGATE_VARIANT": "fast"})
    assert plain.drift == fast.drift
    assert ("plain", 0) == (plain.variant, plain.draft_len)
    assert ("fast", 3) == (fast.variant, fast.draft_len)


@pytest.mark.parametrize("config", ["Eagle", {}, {"max_draft_len": 0}, {"max_draft_len": True}])
def test_a_model_that_guesses_is_told_how_far(config: object) -> None:
    with pytest.raises(ValueError, match="max_draft_len must be 1 or more"):
        model({"speculative_config": config}, {})


@pytest.mark.parametrize("precision", PRECISIONS.values())
@pytest.mark.parametrize("batch", [1, 16, 256, 4096])
@pytest.mark.parametrize("guesses", [0, 1, 32])
def test_no_load_passes_2000_tokens_a_second(
    precision: Precision, batch: int, guesses: int
) -> None:
    settings = Settings()
    own = settings.step_ms * precision.step + settings.draft_ms * guesses
    step = (own + settings.step_ms_per_sequence * batch * (1 + guesses)) / 1000
    assert batch * (1 + guesses) / step < 2000


@pytest.mark.parametrize(
    ("engine", "slots"),
    [
        ({}, DEFAULT_SLOTS),
        ({"max_batch_size": 8}, 8),
        ({"max_batch_size": 8, "simulation": {"slots": 2}}, 2),
    ],
)
def test_slots_follow_the_batch_size(engine: dict[str, object], slots: int) -> None:
    assert slots == model(engine, {}).settings.slots


@pytest.mark.parametrize(
    ("simulation", "message"),
    [
        ("fast", "simulation is 'fast'; it must be a mapping"),
        ({"speed": 1}, "simulation.speed is unknown; there are step_ms, "),
        ({"slots": 1.5}, "simulation.slots is 1.5; it must be int"),
        ({"slots": True}, "simulation.slots is True; it must be int"),
        ({"load_s": "1"}, "simulation.load_s is '1'; it must be float"),
        ({"load_s": -1}, "simulation.load_s is -1; it must not be negative"),
    ],
)
def test_a_mistake_is_named(simulation: object, message: str) -> None:
    with pytest.raises(ValueError, match="simulation") as caught:
        model({"simulation": simulation}, {})
    assert message in str(caught.value)


@pytest.mark.parametrize("given", [None, {}, {"load_s": 1}, {"fail_load": "no memory"}])
def test_what_is_right_is_taken(given: dict[str, object] | None) -> None:
    assert Settings(**(given or {})) == model({"simulation": given}, {}).settings


def test_parameters_are_json_or_strings() -> None:
    config = {
        "parameters": {
            "simulation": {"string_value": '{"slots": 2}'},
            "max_batch_size": {"string_value": "8"},
            "tokenizer_dir": {"string_value": "/models/x"},
        }
    }
    wanted = {"simulation": {"slots": 2}, "max_batch_size": 8, "tokenizer_dir": "/models/x"}
    assert wanted == parameters(config)
