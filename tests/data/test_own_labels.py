from __future__ import annotations

import functools
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import label_samples
import pytest
from label_samples import SENTENCES

from fsa_base.errors import DataError, SettingError
from fsa_jax.common.paths import DATA_DIR_VARIABLE
from fsa_jax.data import own_labels
from fsa_jax.data.own_labels import LABELS_VARIABLE, prepared, resolve_task
from fsa_jax.labels.prepare import prepare


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    own_labels.of_environment.cache_clear()
    return tmp_path / "cache"


def test_a_path_is_prepared_once(tmp_path: Path, cache: Path) -> None:
    source = label_samples.write(tmp_path, "tasd.txt")
    root, dataset = resolve_task(str(source), tmp_path / "no_data")
    assert dataset == "tasd/tasd"
    assert root.is_relative_to(cache)
    train = root / "fsa" / dataset / "train.json"
    before = train.stat().st_mtime_ns
    assert resolve_task(str(source), tmp_path) == (root, dataset)
    assert train.stat().st_mtime_ns == before
    with source.open("a") as stream:
        stream.write("Fresh tea here .####[['tea', 'drinks', 'positive']]\n")
    assert resolve_task(str(source), tmp_path)[0] != root
    assert resolve_task(str(source), tmp_path, seed=1)[0] != resolve_task(str(source), tmp_path)[0]


def test_a_damaged_cache_is_written_again(tmp_path: Path) -> None:
    source = label_samples.write(tmp_path, "tasd.txt")
    first = prepared(source)
    train = first.folder / "train.json"
    whole = train.read_bytes()
    train.write_bytes(whole[:-1])
    assert not prepared(source).reused
    assert train.read_bytes() == whole


def test_several_readers_at_the_same_time(tmp_path: Path) -> None:
    source = label_samples.write(tmp_path, "asqp.txt")
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: prepared(source), range(8)))
    assert len({one.folder for one in found}) == 1
    assert sum(not one.reused for one in found) == 1


def test_the_word_of_a_task(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    source = label_samples.write(tmp_path, "tasd.txt")
    data = prepare(source, tmp_path / "data").root
    for word in ("tasd", "tasd/tasd", "fsa_tasd_tasd"):
        assert resolve_task(word, data) == (data, "tasd/tasd")
    # A folder in the project's layout is used as it is.
    for path in (data, data / "fsa" / "tasd" / "tasd"):
        assert resolve_task(str(path), tmp_path / "elsewhere") == (data, "tasd/tasd")
    (tmp_path / "mine").mkdir()
    shutil.copy(source, tmp_path / "mine" / "all.txt")
    assert resolve_task("mine", data)[1] == "tasd/mine"
    prepare(source, data, codec="acsa")
    with pytest.raises(SettingError, match="acsa/tasd or tasd/tasd"):
        resolve_task("tasd", data)
    with pytest.raises(SettingError, match="one dataset"):
        resolve_task(str(data), tmp_path)
    with pytest.raises(SettingError, match="near 'tasd'"):
        resolve_task("tasdd", data)
    with pytest.raises(SettingError, match="a path of labels"):
        resolve_task("no/such.csv", data)
    source.write_text("no labels here\n")
    with pytest.raises(DataError, match=r"tasd.txt:1"):
        resolve_task(str(source), data / "nowhere")


def test_the_tasks_read_nothing_on_import_and_give_the_labels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(LABELS_VARIABLE, str(tmp_path / "not_there.csv"))
    monkeypatch.setenv(DATA_DIR_VARIABLE, str(tmp_path / "data"))
    import seqio

    import fsa_jax.tasks  # noqa: F401

    names = ("fsa_labels", "fsa_labels_atsa", "fsa_labels_acsa", "fsa_labels_tasd", "fsa_labels_asqp")
    tasks = {name: seqio.TaskRegistry.get(name) for name in names}
    with pytest.raises(DataError, match="not_there"):
        tasks["fsa_labels"].source.num_input_examples("train")
    monkeypatch.setenv(LABELS_VARIABLE, "")
    with pytest.raises(SettingError, match=LABELS_VARIABLE):
        tasks["fsa_labels"].source.num_input_examples("train")

    monkeypatch.setenv(LABELS_VARIABLE, str(label_samples.write(tmp_path, "reviews.jsonl")))
    expected = {
        "fsa_labels": "bread | food quality | positive | good ; staff | service general | negative | rude",
        "fsa_labels_atsa": "bread | positive ; staff | negative",
        "fsa_labels_acsa": "food quality | positive ; service general | negative",
        "fsa_labels_tasd": "bread | food quality | positive ; staff | service general | negative",
        "fsa_labels_asqp": "bread | food quality | positive | good ; staff | service general | negative | rude",
    }
    for name, task in tasks.items():
        rows = {}
        for split in ("train", "validation", "test"):
            for row in task.source.get_dataset(split, shuffle=False).as_numpy_iterator():
                rows[row["inputs"].decode()] = row["targets"].decode()
        assert rows.keys() == {text for text, _ in SENTENCES}
        text = SENTENCES[0][0]
        assert rows[text] == expected[name]
        example = {"inputs_pretokenized": text.encode(), "targets_pretokenized": rows[text].encode()}
        gold = task.postprocess_fn("", example=example, is_target=True)
        predicted = task.postprocess_fn(f"{rows[text]} ; nonsense", example=example)
        assert len(gold) == 2
        assert task.metric_fns[0]([gold], [predicted])["f1"] == 100
        shorter = task.postprocess_fn(rows[text].split(";")[0], example=example)
        assert task.metric_fns[0]([gold], [shorter])["recall"] == 50


def test_training_on_a_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from fsa_jax.training import found_data
    from fsa_jax.training.train_command import TrainOptions, train_command

    monkeypatch.setenv("FSA_VOCAB", "")
    source = label_samples.write(tmp_path, "asqp.txt")
    found, task = found_data.find_for_task(tmp_path / "no_data", str(source))
    assert task == "asqp/asqp"
    options = functools.partial(TrainOptions, student="mine", size="10m")
    command = train_command(options(task=task), found)
    assert command.environment[DATA_DIR_VARIABLE] == str(found.root)
    assert command.bindings["MIXTURE_OR_TASK_NAME"] == "fsa_asqp_asqp"
    assert command.bindings["BEST_BY"] == "inference_eval/fsa_asqp_asqp/f1"
    assert command.bindings["TASK_FEATURE_LENGTHS"] == {"inputs": 128, "targets": 200}
    with pytest.raises(SettingError, match="a path of labels"):
        found_data.find_for_task(tmp_path, "my/reviews.csv")
