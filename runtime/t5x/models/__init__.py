"""Transformers as the engine sees them: a network, vocabularies, an optimizer, and what to do with a batch."""

from t5x.models.base import BaseModel as BaseModel
from t5x.models.transformers import BaseTransformerModel as BaseTransformerModel
from t5x.models.transformers import DecoderOnlyModel as DecoderOnlyModel
from t5x.models.transformers import EncoderDecoderModel as EncoderDecoderModel
