"""Decoding one token at a time with a cache: beam search and sampling."""

from t5x.decoding.beams import beam_search as beam_search
from t5x.decoding.cache import DecodingState as DecodingState
from t5x.decoding.cache import TokensToLogits as TokensToLogits
from t5x.decoding.cache import drop_left as drop_left
from t5x.decoding.cache import repeat_for_decodes as repeat_for_decodes
from t5x.decoding.sampling import SamplingLoopState as SamplingLoopState
from t5x.decoding.sampling import temperature_sample as temperature_sample
