"""Predictions and scores of models, against the same network run without a cache."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import TypeCheckError
from shape_checks import checked
from tiny_network import TinyVocabulary, tiny_batch, tiny_model, tiny_variables

from fsa_base.errors import SettingError, VocabularyError
from fsa_base.networks.llama.config import LlamaConfig
from fsa_base.networks.llama.network import LlamaTransformer
from fsa_base.networks.t5 import T5Config, Transformer
from t5x import losses
from t5x.decoding import beam_search, temperature_sample
from t5x.models import DecoderOnlyModel, EncoderDecoderModel

# The network's functions check the shapes in their signatures.
*_, decoder_only = checked(
    "fsa_base.networks.layers",
    "fsa_base.networks.t5.attention",
    "fsa_base.networks.t5.network",
    "t5x.examples.decoder_only.network",
)
DecoderWrapper, TransformerConfig = decoder_only.DecoderWrapper, decoder_only.TransformerConfig

VOCAB, END = 24, 1
SIZES = {"vocab_size": VOCAB, "emb_dim": 8, "num_heads": 2, "head_dim": 4, "mlp_dim": 16, "dropout_rate": 0.0}


def sharpened(params):
    """Larger weights, so that a random network has an opinion."""
    return jax.tree.map(lambda param: param * 1.6, params)


@functools.cache
def student(scan_layers: bool = False):
    """A T5, and its parameters."""
    config = T5Config(num_encoder_layers=1, num_decoder_layers=2, scan_layers=scan_layers, **SIZES)
    network, vocabulary = Transformer(config), TinyVocabulary()
    model = EncoderDecoderModel(network, vocabulary, vocabulary, None)
    shapes = {"encoder_input_tokens": (2, 6), "decoder_input_tokens": (2, 7)}
    variables = jax.jit(lambda: model.get_initial_variables(jax.random.PRNGKey(3), shapes))()
    return network, sharpened(variables["params"])


def student_model(network, decode_fn=beam_search, **options):
    return EncoderDecoderModel(network, TinyVocabulary(), TinyVocabulary(), None, decode_fn, **options)


def predict(model, params, batch, rng=None, **options):
    return jax.jit(functools.partial(model.predict_batch_with_aux, **options))(params, batch, rng)


INPUTS = jnp.array([[5, 6, 7, 8, 9, 1], [3, 2, 1, 0, 0, 0]])
BATCH = {"encoder_input_tokens": INPUTS, "decoder_input_tokens": jnp.zeros((2, 7), jnp.int32)}


def token_log_probs(network, params, targets):
    """Log-probability of every token of ``targets`` (batch, length), by one pass without a cache."""
    batch = {
        "encoder_input_tokens": INPUTS,
        "decoder_input_tokens": jnp.pad(targets, ((0, 0), (1, 0)))[:, :-1],
        # Padding would be masked; any token will do for the mask.
        "decoder_target_tokens": jnp.where(targets == 0, 2, targets),
    }
    logits = jax.jit(student_model(network)._compute_logits)(params, batch)
    return np.take_along_axis(np.asarray(jax.nn.log_softmax(logits)), np.asarray(targets)[..., None], axis=-1)[..., 0]


def log_likelihood(network, params, decodes, prompt_lengths=(0, 0)):
    """Log-probability of what follows the prompt in every decode, its end token included; (batch, decodes)."""
    totals = np.zeros(decodes.shape[:2])
    for index in range(decodes.shape[1]):
        scores = token_log_probs(network, params, decodes[:, index])
        for row, tokens in enumerate(np.asarray(decodes[:, index]).tolist()):
            end = tokens.index(END) + 1 if END in tokens else len(tokens)
            totals[row, index] = scores[row, prompt_lengths[row] : end].sum()
    return totals


@pytest.mark.parametrize("scan_layers", [False, True])
def test_scores_of_cached_decoding_are_those_of_a_plain_pass(scan_layers):
    network, params = student(scan_layers)
    options = {"num_decodes": 3, "return_all_decodes": True, "decoder_params": {"alpha": 0.0}}
    decodes, aux = predict(student_model(network), params, BATCH, **options)
    finished = np.asarray(aux["scores"]) > -1e6
    assert finished[:, -1].all()
    np.testing.assert_allclose(
        np.asarray(aux["scores"])[finished], log_likelihood(network, params, decodes)[finished], rtol=2e-4
    )


def test_samples_continue_their_prompts():
    network, params = student()
    model = student_model(network, temperature_sample, default_decoder_params={"topk": 0, "rescale_log_probs": False})
    # The end token of a prompt is dropped, so that the second decode goes on after 8.
    prompts = jnp.array([[0, 7, 9, 4, 0, 0, 0], [0, 8, 1, 0, 0, 0, 0]])
    options = {"num_decodes": 4, "return_all_decodes": True, "prompt_with_targets": True}
    batch = {**BATCH, "decoder_input_tokens": prompts}
    decodes, aux = predict(model, params, batch, jax.random.PRNGKey(4), **options)
    assert (np.asarray(decodes[0, :, :3]) == [7, 9, 4]).all()
    assert (np.asarray(decodes[1, :, 0]) == 8).all()
    assert len(np.unique(decodes[0], axis=0)) > 1
    np.testing.assert_allclose(aux["scores"], log_likelihood(network, params, decodes, (3, 1)), rtol=1e-3, atol=1e-3)


def test_the_best_decode_is_returned_and_more_on_request():
    network, params = student()
    model = student_model(network, default_decoder_params={"alpha": 0.0})
    every, every_aux = predict(model, params, BATCH, num_decodes=2, return_all_decodes=True)
    best, best_aux = predict(model, params, BATCH, num_decodes=2)
    assert every.shape == (2, 2, 7) and best.shape == (2, 7)
    np.testing.assert_array_equal(best, every[:, -1])
    np.testing.assert_array_equal(best_aux["scores"], every_aux["scores"][:, -1])


def test_scores_of_batches_take_no_smoothing():
    batch = tiny_batch(4)
    plain, smoothed = tiny_model(), tiny_model(label_smoothing=0.3, z_loss=0.1)
    params = tiny_variables(plain, batch)["params"]
    logits = np.asarray(plain._compute_logits(params, batch), np.float64)
    log_probs = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    targets, weights = batch["decoder_target_tokens"], batch["decoder_loss_weights"]
    tokens = np.take_along_axis(log_probs, targets[..., None], axis=-1)[..., 0] * weights
    np.testing.assert_allclose(smoothed.score_batch(params, batch), tokens.sum(1), rtol=1e-5)
    scores, aux = plain.score_batch(params, batch, return_intermediates=True)
    np.testing.assert_allclose(aux["intermediates"]["decoder"]["token_scores"][0], tokens, rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(scores, plain.score_batch(params, batch))


def test_accuracy_counts_targets_with_weight():
    batch = tiny_batch(4)
    model = tiny_model()
    params = tiny_variables(model, batch)["params"]
    _, metrics = model.eval_fn(params, batch)
    hits = np.asarray(model._compute_logits(params, batch)).argmax(-1) == batch["decoder_target_tokens"]
    weights = batch["decoder_loss_weights"]
    assert float(metrics["accuracy"].compute()) == pytest.approx((hits * weights).sum() / weights.sum())


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("network", ["encoder-decoder", "language model", "Llama"])
def test_the_loss_in_chunks_is_that_of_all_logits(network, tied):
    sizes = SIZES | {"logits_via_embedding": tied}
    batch = jax.tree.map(jnp.asarray, tiny_batch(4))
    if network == "encoder-decoder":
        module, kind = Transformer(T5Config(num_encoder_layers=1, num_decoder_layers=1, **sizes)), EncoderDecoderModel
    elif network == "language model":
        module, kind = DecoderWrapper(TransformerConfig(num_layers=1, **sizes)), DecoderOnlyModel
    else:
        del sizes["dropout_rate"]
        module, kind = LlamaTransformer(LlamaConfig(num_layers=1, num_kv_heads=1, **sizes)), DecoderOnlyModel

    def model(mib):
        options = {"loss_normalizing_factor": "NUM_REAL_TARGET_TOKENS", "z_loss": 1e-4, "logits_chunk_mib": mib}
        if kind is EncoderDecoderModel:
            return EncoderDecoderModel(module, None, None, None, **options)
        return DecoderOnlyModel(module, None, None, **options)

    params = tiny_variables(model(0), batch)["params"]
    # A chunk has one position of every row.
    (expected, metrics), gradients = jax.value_and_grad(model(0).loss_fn, has_aux=True)(params, batch, None)
    (loss, found), found_gradients = jax.value_and_grad(model(1e-9).loss_fn, has_aux=True)(params, batch, None)
    assert float(loss) == pytest.approx(float(expected), rel=1e-6)
    assert {name: float(metric.compute()) for name, metric in found.items() if "timing" not in name} == pytest.approx(
        {name: float(metric.compute()) for name, metric in metrics.items() if "timing" not in name}, rel=1e-5
    )
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), gradients, found_gradients)


def test_a_negative_chunk_is_refused():
    with pytest.raises(SettingError, match=r"EncoderDecoderModel\.logits_chunk_mib: expected a number of MiB"):
        EncoderDecoderModel(student()[0], None, None, None, logits_chunk_mib=-1)


def test_a_class_that_overrides_the_logits_decides_the_loss():
    class Doubled(EncoderDecoderModel):
        def _compute_logits(self, params, batch, dropout_rng=None, mutable=False, other_variables=None):  # type: ignore[override]
            return 2 * super()._compute_logits(params, batch, dropout_rng, mutable, other_variables)

    network, params = student()
    batch = jax.tree.map(jnp.asarray, tiny_batch(4))
    logits = EncoderDecoderModel(network, None, None, None)._compute_logits(params, batch)
    expected = losses.loss_sums(2 * logits, batch["decoder_target_tokens"], batch["decoder_loss_weights"])
    assert float(Doubled(network, None, None, None).loss_fn(params, batch, None)[0]) == pytest.approx(
        float(expected.loss), rel=1e-6
    )


def test_a_network_with_fewer_rows_than_its_vocabulary_has_ids_is_refused():
    network, params = student()
    batch = BATCH | {"decoder_target_tokens": jnp.ones((2, 7), jnp.int32)}
    with pytest.raises(VocabularyError, match="expected logits for the 32 ids of its vocabulary, found 24"):
        student_model(network).eval_fn(params, batch)


def test_a_language_model_refuses_targets_of_another_length():
    ids = jnp.ones((2, 5), jnp.int32)
    with pytest.raises(TypeCheckError):
        DecoderWrapper(TransformerConfig(num_layers=1, **SIZES)).init(jax.random.PRNGKey(0), ids, ids[:, 1:])


@pytest.mark.parametrize("bidirectional", [False, True])
def test_language_models_continue_prefixes_of_any_length(bidirectional):
    module = DecoderWrapper(TransformerConfig(num_layers=2, logits_via_embedding=True, **SIZES))
    model = DecoderOnlyModel(
        module, TinyVocabulary(), None, temperature_sample, inputs_bidirectional_attention=bidirectional
    )
    shapes = {"decoder_input_tokens": (3, 8)}
    variables = jax.jit(lambda: model.get_initial_variables(jax.random.PRNGKey(0), shapes))()
    params = sharpened(variables["params"])
    lengths = [3, 1, 5]
    tokens = np.random.RandomState(0).randint(2, VOCAB, (3, 8))
    prefix = (np.arange(8)[None, :] <= np.array(lengths)[:, None]).astype(np.int32)
    tokens[:, 0] = 0
    batch = {"decoder_input_tokens": jnp.asarray(tokens), "decoder_causal_attention": jnp.asarray(prefix)}
    decodes = np.asarray(jax.jit(model.predict_batch)(params, batch))
    logits_of = jax.jit(lambda batch: model._compute_logits(params, batch))
    for row, length in enumerate(lengths):
        inputs = np.zeros((1, 8), np.int32)
        inputs[0, : length + 1] = tokens[row, : length + 1]
        expected = []
        for position in range(length, 8):
            plain = {
                "decoder_input_tokens": jnp.asarray(inputs),
                "decoder_target_tokens": jnp.full((1, 8), 2),
                "decoder_causal_attention": jnp.asarray(prefix[row : row + 1]),
            }
            expected.append(int(jnp.argmax(logits_of(plain)[0, position])))
            if expected[-1] == END or position == 7:
                break
            inputs[0, position + 1] = expected[-1]
        assert decodes[row].tolist() == expected + [0] * (8 - len(expected))


def test_feature_converters_are_by_default_those_of_seqio():
    import seqio

    class Converter(seqio.EncDecFeatureConverter):
        pass

    assert EncoderDecoderModel.FEATURE_CONVERTER_CLS is seqio.EncDecFeatureConverter
    assert DecoderOnlyModel.FEATURE_CONVERTER_CLS is seqio.DecoderFeatureConverter
    assert tiny_model().FEATURE_CONVERTER_CLS is seqio.EncDecFeatureConverter
    assert tiny_model(feature_converter_cls=Converter).FEATURE_CONVERTER_CLS is Converter
