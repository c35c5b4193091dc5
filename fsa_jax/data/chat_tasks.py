"""SeqIO tasks for decoder-only students: the tasks of tasks.py in the chat template of ``$FSA_STUDENT``.

To use them in gin: ``MIXTURE_OR_TASK_MODULE = "fsa_jax.data.chat_tasks"``.
"""

import seqio

from fsa_jax.common.paths import data_dir
from fsa_jax.data.benchmark_files import RELEASED, label_sets, task_of
from fsa_jax.data.chat import ChatVocabulary, add_chat
from fsa_jax.data.own_labels import TASK
from fsa_jax.data.sources import CODECS, FsaSource, OwnLabelsSource, TeacherTextSource
from fsa_jax.data.task_builders import scoring

VOCABULARY = ChatVocabulary()

add_chat("fsa_chat_analysis", TeacherTextSource("analysis"), VOCABULARY)
add_chat("fsa_chat_rewriting", TeacherTextSource("rewriting"), VOCABULARY)
seqio.MixtureRegistry.add("fsa_chat_distill", ["fsa_chat_analysis", "fsa_chat_rewriting"], default_rate=1.0)

for dataset in dict.fromkeys((*RELEASED, *label_sets(data_dir()))):
    source = FsaSource(dataset)
    add_chat(task_of(dataset, chat=True), source, VOCABULARY, **scoring(source))

for codec in (None, *CODECS):
    source = OwnLabelsSource(codec)
    name = f"{TASK.replace('fsa_', 'fsa_chat_')}{f'_{codec}' if codec else ''}"
    add_chat(name, source, VOCABULARY, **scoring(source))
