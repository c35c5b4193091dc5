"""Models: a network with its vocabularies and optimizer, and the computation of loss, scores and predictions."""

from t5x.models.base import BaseModel as BaseModel
from t5x.models.transformers import BaseTransformerModel as BaseTransformerModel
from t5x.models.transformers import DecoderOnlyModel as DecoderOnlyModel
from t5x.models.transformers import EncoderDecoderModel as EncoderDecoderModel
