"""Decoding one token at a time with a cache: beam search and sampling."""

from t5x.decoding.beams import beam_search as beam_search
from t5x.decoding.networks import DecodingState as DecodingState
from t5x.decoding.networks import TokensToLogits as TokensToLogits
from t5x.decoding.networks import continue_prefix as continue_prefix
from t5x.decoding.networks import decode_from_encoder as decode_from_encoder
from t5x.decoding.networks import drop_left as drop_left
from t5x.decoding.networks import repeat_for_decodes as repeat_for_decodes
from t5x.decoding.sampling import SamplingLoopState as SamplingLoopState
from t5x.decoding.sampling import temperature_sample as temperature_sample
