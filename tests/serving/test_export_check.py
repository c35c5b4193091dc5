"""The check of an export: what it compares and which exports it refuses."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fsa_base.errors import CheckpointError, SettingError
from fsa_jax.serving.ct2 import Ct2Generator, load_ct2_student
from fsa_jax.serving.export_check import Agreement, Reference, check_sentences, compare, require
from fsa_jax.serving.export_ct2 import write_ct2
from fsa_jax.serving.student import load_student


def test_inputs_of_over_1024_tokens_are_not_cut_silently(checkpoint, vocabulary, tmp_path):
    """By default, CTranslate2 cuts inputs at 1,024 tokens."""
    write_ct2(load_student(checkpoint, vocabulary=vocabulary), tmp_path, "float32")
    model = Ct2Generator(load_ct2_student(tmp_path), max_length=4)
    one, other = model.first_log_probs([[*[5] * 1100, 7, 1], [*[5] * 1100, 9, 1]])
    assert abs(one - other).max() > 1e-6


def test_teacher_text_may_differ_in_three_tokens_of_a_hundred():
    agreement = Agreement("text", 200, 150, 0, 1000, 970, 1e-3, 1e-2, 0, 1e-3)
    require(agreement, "int8", None, "it", "none")
    with pytest.raises(CheckpointError, match="at least 97% of the tokens equal"):
        require(replace(agreement, same_tokens=969), "int8", None, "it", "none")
    with pytest.raises(CheckpointError, match="the same greedy outputs"):
        require(agreement, "float32", None, "it", "none")
    require(replace(agreement, ties=50), "float32", None, "it", "none")


def test_a_search_that_forbids_empty_answers_is_noticed(checkpoint, vocabulary, tmp_path, monkeypatch):
    """The outputs of this student are the same with and without empty answers; only the probabilities differ."""
    student = load_student(checkpoint, vocabulary=vocabulary)
    texts = ["The pizza was wonderful.", "Never again."]
    reference = Reference(student, texts, 4)
    write_ct2(student, tmp_path, "float32")
    export = Ct2Generator(load_ct2_student(tmp_path), max_length=4)
    agreement = compare(reference, export)
    assert agreement.end_difference == pytest.approx(0, abs=1e-4)
    require(agreement, "float32", None, "it", "none")
    search = Ct2Generator._search
    forbids = {"suppress_sequences": [["</s>"]]}
    monkeypatch.setattr(Ct2Generator, "_search", lambda *args, **more: search(*args, **more, **forbids))
    with pytest.raises(CheckpointError, match="log-probability of an empty answer"):
        require(compare(reference, export), "float32", None, "it", "none")


def test_the_package_has_two_hundred_sentences_for_the_check():
    texts, _ = check_sentences(None, 1000)
    assert len(set(texts)) >= 200


@pytest.mark.parametrize("count", [0, -1])
def test_a_check_with_no_sentence_is_refused(count):
    with pytest.raises(SettingError, match="check-count"):
        check_sentences(None, count)
