from __future__ import annotations

import io
import pickle
import subprocess
import sys

import pytest
import sentencepiece
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from fsa_base.errors import VocabularyError
from fsa_jax.data.vocabulary import ReviewVocabulary, t5_vocabulary
from fsa_jax.tokenizers.t5 import T5_SHA256, VOCABULARY_VARIABLE

TEXTS = [
    "",
    "\n",
    "a\n\nb ",
    " \r\n x\ty\n",
    'Opinion Target 1: "pizza"\nAspect: Food\n\nSentiment: Very Positive',
    "nul\x00, next line\x85, separators\u2028\u2029, \x1c\x0b\x0c",
    "<extra_id_0> and [NL] written out",
    "▁ 漢字 😀 ﬁ é Ⅷ",
]


def _train(path, pad_id=0, vocab_size=60, text="the food was great and the staff was not so great\n" * 20):
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.Train(
        sentence_iterator=iter(text.splitlines()),
        model_writer=model,
        vocab_size=vocab_size,
        hard_vocab_limit=False,
        pad_id=pad_id,
        eos_id=1 if pad_id == 0 else 0,
        unk_id=2,
        bos_id=-1,
        minloglevel=2,
    )
    path.write_bytes(model.getvalue())
    return path


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    return ReviewVocabulary(_train(tmp_path_factory.mktemp("vocabulary") / "small.model"))


@pytest.fixture(scope="module")
def t5(real_data_dir):
    return ReviewVocabulary(real_data_dir / "t5_vocab" / "spiece.model")


@pytest.fixture(autouse=True)
def _no_configuration(monkeypatch):
    monkeypatch.delenv(VOCABULARY_VARIABLE, raising=False)


def _check_graph_equals_python(vocabulary, text):
    ids = vocabulary.encode(text)
    assert vocabulary.encode_tf(tf.constant(text)).numpy().tolist() == ids
    decoded = vocabulary.decode(ids)
    assert vocabulary.decode_tf(tf.constant(ids, tf.int32)).numpy().decode() == decoded
    assert decoded.count("\n") == text.count("\n")


@pytest.mark.parametrize("text", TEXTS)
def test_t5_graph_equals_python(t5, text):
    _check_graph_equals_python(t5, text)


# UTF-8 files have no surrogates.
_any_text = st.text(st.characters(exclude_categories=("Cs",)), max_size=40)
_spaced_text = st.lists(
    st.sampled_from(["the", "food", " ", "\n", "\r", "\t", "\x0b", "\u00a0", "\u2028", "\ufeff", "."])
)


@given(_any_text | _spaced_text.map("".join))
@settings(max_examples=150)
def test_small_graph_equals_python(small, text):
    _check_graph_equals_python(small, text)


def test_t5_ids(t5):
    assert (t5.vocab_size, t5.newline_id, t5.eos_id, t5.unk_id, t5.pad_id) == (32_101, 32_100, 1, 2, 0)
    assert t5.encode("hello world\n\nhello") == [21820, 296, 32_100, 32_100, 21820]
    assert t5.encode("<extra_id_0>") == [32_099]
    assert t5.decode([21820, 32_100, 296, 1, 296]) == "hello\nworld"
    assert t5.decode([32_127]) == t5.decode([2])


def test_batches_in_the_graph(small):
    texts = ["the food\nwas", "", "great"]
    encoded = tf.function(small.encode_tf)(tf.constant(texts))
    assert encoded.to_list() == [small.encode(text) for text in texts]
    padded = encoded.to_tensor()
    decoded = tf.function(small.decode_tf)(padded)
    assert [text.decode().strip() for text in decoded.numpy()] == texts


def test_a_vocabulary_can_be_pickled_and_compared(small, tmp_path, t5, real_data_dir):
    assert small.encode("the food")
    again = pickle.loads(pickle.dumps(small))
    assert again == small and hash(again) == hash(small) and again.encode("the\nfood") == small.encode("the\nfood")
    copy = tmp_path / "copy.model"
    copy.write_bytes((real_data_dir / "t5_vocab" / "spiece.model").read_bytes())
    assert ReviewVocabulary(copy) == t5
    assert t5 != small
    assert ReviewVocabulary(copy, extra_ids=0) != t5
    assert t5 != "t5"


def test_it_is_found_in_the_environment_then_in_the_data_directory(small, real_data_dir, monkeypatch):
    monkeypatch.setenv("FSA_DATA_DIR", str(real_data_dir))
    assert t5_vocabulary().vocab_size == 32_101
    monkeypatch.setenv("FSA_VOCAB", small.model_file)
    assert ReviewVocabulary().vocab_size == small.vocab_size


def test_a_path_without_a_file(tmp_path, monkeypatch):
    monkeypatch.setenv("FSA_VOCAB", str(tmp_path / "absent.model"))
    with pytest.raises(VocabularyError, match=r"FSA_VOCAB=.*absent.model.*nothing there"):
        ReviewVocabulary().encode("a")


def test_another_file_in_place_of_t5s_model(tmp_path, monkeypatch, small):
    (tmp_path / "t5_vocab").mkdir()
    (tmp_path / "t5_vocab" / "spiece.model").write_bytes(b"truncated")
    monkeypatch.setenv("FSA_DATA_DIR", str(tmp_path))
    with pytest.raises(VocabularyError, match=T5_SHA256):
        ReviewVocabulary().encode("a")


@pytest.mark.parametrize("content", [b"not a model", b""])
def test_a_file_that_is_not_a_model(tmp_path, content):
    path = tmp_path / "bad.model"
    path.write_bytes(content)
    with pytest.raises(VocabularyError, match=r"bad.model: expected"):
        ReviewVocabulary(path).encode("a")


def test_a_model_with_other_special_ids(tmp_path):
    with pytest.raises(VocabularyError, match="pad_id=0"):
        ReviewVocabulary(_train(tmp_path / "other.model", pad_id=1)).encode("a")


def test_an_unreachable_hub(tmp_path, monkeypatch, capsys):
    import huggingface_hub

    def refuse(*arguments, **options):
        raise OSError("no route to host")

    monkeypatch.setenv("FSA_DATA_DIR", str(tmp_path))
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", refuse)
    with pytest.raises(VocabularyError, match=r"google-t5/t5-base.*\n?.*no route to host"):
        ReviewVocabulary().encode("a")
    assert "asking the Hugging Face hub" in capsys.readouterr().err


def test_a_cached_download_is_checked_without_the_hub(small, tmp_path, monkeypatch, capsys):
    import huggingface_hub

    monkeypatch.setenv("FSA_DATA_DIR", str(tmp_path))
    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda *_: small.model_file)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", lambda *_: pytest.fail("asked"))
    with pytest.raises(VocabularyError, match=r"small.*\n?.*sha256"):
        ReviewVocabulary().encode("a")
    assert not capsys.readouterr().err


@pytest.mark.parametrize(("rows", "fits"), [(-1, False), (0, True), (127, True), (128, False)])
def test_the_model_s_rows_must_fit(small, monkeypatch, rows, fits):
    monkeypatch.setenv("FSA_VOCAB", small.model_file)
    rows += small.vocab_size
    if fits:
        assert t5_vocabulary(rows) == small
    else:
        with pytest.raises(VocabularyError, match=f"model of {rows} rows"):
            t5_vocabulary(rows)


def test_finding_the_file_imports_no_tensorflow():
    modules = "fsa_jax.tokenizers.t5, fsa_jax.data.benchmark_files"
    code = f"import sys, {modules}; print('tensorflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"
