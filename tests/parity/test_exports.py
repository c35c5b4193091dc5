"""Exports of every family: they are checked, refused if they differ, and bit-identical when imported again."""

# pyright: reportMissingImports=false

from __future__ import annotations

import dataclasses
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from small_models import DECODERS, FAMILIES, T5_FAMILIES, write_tokenizer

from fsa_base.errors import CheckpointError, SettingError
from fsa_jax.serving import Predictor
from fsa_jax.serving.ct2 import Ct2Generator, load_ct2_student
from fsa_jax.serving.export_check import Reference, compare
from fsa_jax.serving.export_ct2 import export_ct2, write_ct2
from fsa_jax.serving.export_hf import Check, export_hf
from fsa_jax.serving.model_card import Card
from fsa_jax.serving.student import Student, load_student
from fsa_jax.weights.hf_files import open_directory
from fsa_jax.weights.import_model import import_model

CARD = Card("a student", data="reviews", teacher="Mixtral-8x7B", recipe="gin/distill_base.gin")


@pytest.fixture(scope="session")
def vocabularies(tmp_path_factory, sentences) -> dict[str, Path]:
    """SentencePiece models of both kinds for T5 models with 512 embedding rows."""
    import sentencepiece

    directory = tmp_path_factory.mktemp("vocabularies")
    (directory / "sentences.txt").write_text("\n".join(sentences))
    for family, kind in (("t5_v1_0", "unigram"), ("t5_v1_1", "bpe")):
        sentencepiece.SentencePieceTrainer.Train(  # pyright: ignore[reportAttributeAccessIssue]
            f"--input={directory}/sentences.txt --model_prefix={directory}/{family} --vocab_size=400 --pad_id=0 "
            f"--eos_id=1 --unk_id=2 --bos_id=-1 --hard_vocab_limit=false --minloglevel=2 --model_type={kind}"
        )
    return {family: directory / f"{family}.model" for family in ("t5_v1_0", "t5_v1_1")}


@pytest.fixture(scope="session")
def imported(torch_model, tmp_path_factory, vocabularies, texts):
    """A function from a family to its model as imported by ``fsa import-hf``."""
    made: dict[str, Path] = {}

    def get(family: str) -> Path:
        if family not in made:
            source = tmp_path_factory.mktemp("source") / family
            shutil.copytree(torch_model(family)[1], source)
            out, own = tmp_path_factory.mktemp("imported") / family, None
            if family in DECODERS:
                write_tokenizer(source)
            elif family == "t5_32101":
                own = texts.vocabulary
            else:
                own = vocabularies[family]
            import_model(str(source), out, vocabulary=own)
            made[family] = out
        return made[family]

    return get


def student_of(directory: Path) -> Student:
    return load_student(directory)


@pytest.mark.parametrize("family", FAMILIES)
def test_export_to_hugging_face_is_exact_and_comes_back_bit_for_bit(family, imported, torch_model, sentences, tmp_path):
    out = tmp_path / "out"
    check = Check(sentences[::16], "test", max_length=12)
    agreement = export_hf(student_of(imported(family)), out, dtype="float32", check=check, card=CARD)
    assert agreement.same_outputs == agreement.sentences == 4
    assert agreement.mean_difference < 1e-5
    original, written = open_directory(torch_model(family)[1]), open_directory(out)
    names = set(original) - ({"lm_head.weight"} if "lm_head.weight" not in written else set())
    assert names == set(written)
    for name in names:
        assert original[name].read().tobytes() == written[name].read().tobytes(), name
    card = (out / "README.md").read_text()
    assert all(word in card for word in ("Mixtral-8x7B", "gin/distill_base.gin", "commit", "4 of 4"))
    own = out / "spiece.model" if family in T5_FAMILIES else None
    import_model(str(out), tmp_path / "again", vocabulary=own)
    again, first = load_student(tmp_path / "again"), student_of(imported(family))
    assert again.config == first.config
    import jax

    assert jax.tree.all(jax.tree.map(np.array_equal, again.parameters, first.parameters))
    assert again.tokens.encode_target(sentences[5]) == first.tokens.encode_target(sentences[5])


@pytest.mark.parametrize("family", [*T5_FAMILIES, "qwen2_5", "qwen3"])
def test_export_to_ctranslate2(family, imported, sentences, tmp_path):
    check = Check(sentences[::8], "test", max_length=12)
    agreement = export_ct2(student_of(imported(family)), tmp_path / "out", quantization="float32", check=check)
    assert agreement.same_outputs == agreement.sentences and agreement.same_tokens == agreement.tokens
    assert agreement.largest_difference < 1e-3
    predictions = Predictor(tmp_path / "out", task="rewriting", max_output_length=12).predict(sentences[:4])
    expected = Predictor(imported(family), task="rewriting", max_output_length=12).predict(sentences[:4])
    assert [p.generated for p in predictions] == [p.generated for p in expected]
    assert [p.score for p in predictions] == pytest.approx([p.score for p in expected], abs=1e-2)


@pytest.mark.parametrize("family", [*T5_FAMILIES, "qwen2_5", "qwen3"])
def test_int8_weights_give_similar_log_probabilities(family, imported, sentences, tmp_path):
    """An int8 export of random weights is refused, since their outputs are nearly tied, but its numbers are similar."""
    student = student_of(imported(family))
    expected = Reference(student, sentences[::16], 8)
    write_ct2(student, tmp_path, "int8")
    assert compare(expected, Ct2Generator(load_ct2_student(tmp_path), max_length=8)).mean_difference < 1


def test_a_base_models_generation_defaults_do_not_change_answers(imported, sentences, tmp_path):
    """Qwen2.5's generation_config.json penalises repetition; a T5's config.json has a minimum length."""
    for family, file, added in (
        ("qwen2_5", "generation_config.json", {"repetition_penalty": 1.5, "do_sample": True, "temperature": 0.7}),
        ("qwen2_5", "config.json", {"min_length": 8, "no_repeat_ngram_size": 1}),
        ("t5_v1_0", "config.json", {"min_length": 30, "task_specific_params": {"summarization": {"min_length": 30}}}),
    ):
        source = tmp_path / f"{family}-{file}"
        shutil.copytree(imported(family), source)
        path = source / "hf" / file
        path.write_text(json.dumps((json.loads(path.read_text()) if path.is_file() else {}) | added))
        out = tmp_path / f"out-{family}-{file}"
        check = Check(sentences[::16], "test", max_length=12)
        agreement = export_hf(student_of(source), out, dtype="float32", check=check, card=CARD)
        assert agreement.same_outputs == agreement.sentences
        assert not {*added} & {*json.loads((out / "config.json").read_text())}
        written = json.loads((out / "generation_config.json").read_text())
        assert written["do_sample"] is False and written["max_new_tokens"] == 400 and "min_length" not in written


def test_an_export_that_differs_is_refused_and_leaves_nothing(imported, sentences, tmp_path):
    student = student_of(imported("t5_v1_1"))
    check = Check(sentences[::16], "test", max_length=8, tolerance=1e-9)
    with pytest.raises(CheckpointError, match="log-probability differs by"):
        export_ct2(student, tmp_path / "ct2", quantization="int8", check=check)
    with pytest.raises(CheckpointError, match="log-probability differs by"):
        export_hf(student, tmp_path / "hf", dtype="bfloat16", check=check, card=CARD)
    assert list(tmp_path.iterdir()) == []


def test_an_output_that_exists_and_an_unknown_dtype_are_refused(imported, sentences, tmp_path):
    student, check = student_of(imported("t5_v1_1")), Check(sentences[:2], "test", max_length=4)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").touch()
    with pytest.raises(SettingError, match="that does not exist"):
        export_hf(student, tmp_path / "out", dtype="float32", check=check, card=CARD)
    with pytest.raises(SettingError, match="int3"):
        export_ct2(student, tmp_path / "new", quantization="int3", check=check)


@pytest.mark.parametrize("family", ["t5_v1_0", "qwen2_5"])
def test_what_is_pushed_has_a_card_that_the_hub_reads(family, imported, sentences, tmp_path, capsys):
    """And the code in the card works."""
    from huggingface_hub import ModelCard

    student, out, check = student_of(imported(family)), tmp_path / "out", Check(sentences[:2], "test", max_length=4)
    export_hf(student, out, dtype="float32", check=check, card=dataclasses.replace(CARD, folder=str(out)))
    card = ModelCard.load(out / "README.md")
    assert card.data.to_dict().get("license") == ("apache-2.0" if family == "t5_v1_0" else None)
    assert json.loads((out / "config.json").read_text())["vocab_size"] == 512
    (snippet,) = re.findall(r"```python\n(.*?)```", card.text, re.DOTALL)
    exec(snippet, {})
    assert capsys.readouterr().out.endswith("\n")
