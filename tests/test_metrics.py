import subprocess
import sys
import urllib.request

import prometheus_client
import pytest
from prometheus_client.parser import text_string_to_metric_families

import grain_molmo as gm
from grain_molmo.errors import ConfigError
from grain_molmo.metrics import PrometheusMetrics
from grain_molmo.stats import LIMITS


@pytest.fixture
def metrics():
    served = PrometheusMetrics(port=0, registry=prometheus_client.CollectorRegistry())
    yield served
    served.close()


def scrape(served):
    with urllib.request.urlopen(f"http://127.0.0.1:{served.port}/metrics", timeout=10) as answer:
        families = text_string_to_metric_families(answer.read().decode())
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in families
        for sample in family.samples
        if not sample.name.endswith("_created")
    }


def test_what_is_scraped_is_what_the_loader_says(metrics):
    class Talks(gm.Dataset):
        def __len__(self):
            return 50

        def get(self, item, rng):
            return {"messages": ["What?", "" if item % 5 == 0 else "That."]}

    gm.register_dataset("metric-talks", lambda split: Talks())
    stage = gm.Stage(mixture={"metric_talks": 1}, batch_size=2, seq_len=256, crops_per_row=2)
    with gm.make_loader(stage, tokenizer="bytes", num_threads=1, metrics=metrics) as loader:
        for _ in range(5):
            next(loader)
        stats, scraped = loader.stats(), scrape(metrics)
    assert scraped["grain_molmo_step",] == 4
    for name in ("batches", "rows", "examples", "tokens", "loss_weight", "crops", "read_bytes"):
        assert scraped[f"grain_molmo_{name}_total",] == stats[name]
    for name in ("wait", "plan", "render", "decode", "read", "encode", "transfer", "total"):
        assert scraped[f"grain_molmo_{name}_seconds_total",] == pytest.approx(stats[f"{name}_s"])
    for name in ("token_fill", "crop_fill", "wait_share"):
        assert scraped[f"grain_molmo_{name}",] == pytest.approx(stats[name])
    for name, count in stats["datasets"]["metric_talks"].items():
        assert scraped[f"grain_molmo_dataset_{name}_total", "metric_talks"] == count
    assert stats["skipped_examples"]["empty_answer"] > 0
    assert scraped["grain_molmo_skipped_examples_total", "empty_answer"] == stats["skipped_examples"]["empty_answer"]
    limits = {labels[0]: value for (name, *labels), value in scraped.items() if name == "grain_molmo_limited_by"}
    assert limits == {each: float(each == stats["limited_by"]) for each in LIMITS}


def test_a_batch_that_the_hook_fails_at_is_not_lost():
    class Talks(gm.Dataset):
        def __len__(self):
            return 50

        def get(self, item, rng):
            return {"messages": [f"What is {item}?", "That."]}

    def hook(step, values):
        seen.append(step)
        if seen == [0, 1]:
            raise ConnectionError("nobody listens")

    seen: list[int] = []
    gm.register_dataset("hook-talks", lambda split: Talks())
    stage = gm.Stage(mixture={"hook_talks": 1}, batch_size=2, seq_len=256, crops_per_row=2)
    with gm.make_loader(stage, tokenizer="bytes", num_threads=1, metrics=hook) as loader:
        next(loader)
        state = loader.get_state()
        with pytest.raises(ConnectionError):
            next(loader)
        assert loader.get_state() == state
        batch = next(loader)
        assert seen == [0, 1, 1]
        assert all((batch[key] == array).all() for key, array in loader.batch_at(1).items())


def test_counters_go_on_when_another_loader_begins_at_zero(metrics):
    values = [(1.0, 10.0), (2.0, 25.0), (1.0, 40.0), (2.0, 40.0), (3.0, 42.0), (1.0, 6.0), (1.0, 6.0)]
    for batches, tokens in values:
        metrics(0, {"data/batches": batches, "data/tokens": tokens, "data/token_fill": tokens})
    assert scrape(metrics)["grain_molmo_batches_total",] == 2 + 3 + 1 + 1
    assert scrape(metrics)["grain_molmo_tokens_total",] == 25 + 42 + 6 + 6
    assert scrape(metrics)["grain_molmo_token_fill",] == 6


def test_reasons_may_be_of_any_letters(metrics):
    metrics(0, {'data/skipped_media/odd/reason "x"\n': 2.0})
    assert scrape(metrics)["grain_molmo_skipped_media_total", 'odd/reason "x"\n'] == 2


def test_names_of_datasets_may_be_of_any_letters(metrics):
    metrics(0, {"data/datasets/my/own set/tokens": 3.0})
    assert scrape(metrics)["grain_molmo_dataset_tokens_total", "my/own set"] == 3


def test_without_a_registry_of_its_own_they_stand_beside_those_of_grain():
    served = PrometheusMetrics()
    assert served.port is None
    served(7, {"data/tokens": 5.0})
    text = prometheus_client.generate_latest().decode()
    assert "grain_molmo_step 7.0" in text
    assert "grain_python_data_sources_bytes_read" in text
    with pytest.raises(ConfigError, match="give each its own registry"):
        PrometheusMetrics()
    served.close()
    assert "grain_molmo" not in prometheus_client.generate_latest().decode()
    PrometheusMetrics().close()


def test_a_port_that_is_taken_is_refused_and_leaves_nothing_behind(metrics):
    registry = prometheus_client.CollectorRegistry()
    with pytest.raises(ConfigError, match=f"127.0.0.1:{metrics.port}"):
        PrometheusMetrics(port=metrics.port, registry=registry)
    with pytest.raises(ConfigError, match=r"127\.0\.0\.1:70000"):
        PrometheusMetrics(port=70_000, registry=registry)
    assert not prometheus_client.generate_latest(registry)


def test_the_library_does_without_and_says_what_it_needs():
    program = """
import sys
sys.modules["prometheus_client"] = None
import grain_molmo
try:
    import grain_molmo.metrics
except ImportError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "pip install 'grain-molmo[metrics]'" in done.stdout
