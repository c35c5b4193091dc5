"""SeqIO tasks and mixtures of fsa_jax. Registrations only: no data are read or downloaded on import."""

import seqio

from fsa_jax.common.paths import data_dir
from fsa_jax.data.ablations import ABLATIONS
from fsa_jax.data.benchmark_files import RELEASED, label_sets, task_of
from fsa_jax.data.corpus_source import WHOLE, CorpusSource
from fsa_jax.data.own_labels import TASK
from fsa_jax.data.sources import CODECS, FsaSource, OwnLabelsSource, TeacherTextSource
from fsa_jax.data.task_builders import add_fsa, add_teacher_text

# Teacher text in the released layout, $FSA_DATA_DIR/teacher/*.jsonl. The mixtures alternate between the two forms,
# because the paper uses both prompts for every review.
add_teacher_text("fsa_analysis", TeacherTextSource("analysis"))
add_teacher_text("fsa_rewriting", TeacherTextSource("rewriting"))
seqio.MixtureRegistry.add("fsa_distill", ["fsa_analysis", "fsa_rewriting"], default_rate=1.0)

# The corpus that `fsa corpus` wrote, $FSA_DATA_DIR/corpus, complete and reduced for ablations.
for suffix, ablation in {"": WHOLE, **ABLATIONS}.items():
    forms = [f"fsa_corpus_analysis{suffix}", f"fsa_corpus_rewriting{suffix}"]
    add_teacher_text(forms[0], CorpusSource("analysis", ablation))
    add_teacher_text(forms[1], CorpusSource("rewriting", ablation))
    seqio.MixtureRegistry.add(f"fsa_corpus{suffix}", forms, default_rate=1.0)

# The FSA benchmark of the paper, $FSA_DATA_DIR/fsa, and the user's own datasets there.
for dataset in dict.fromkeys((*RELEASED, *label_sets(data_dir()))):
    add_fsa(task_of(dataset), FsaSource(dataset))
seqio.MixtureRegistry.add(
    "fsa_benchmark", [task_of(dataset) for dataset in RELEASED], default_rate=seqio.mixing_rate_num_examples
)

# Labels of one's own in any known format, $FSA_LABELS: in the form of the labels, or in a given one.
add_fsa(TASK, OwnLabelsSource())
for codec in CODECS:
    add_fsa(f"{TASK}_{codec}", OwnLabelsSource(codec))
