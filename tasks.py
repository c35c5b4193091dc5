"""SeqIO tasks and mixtures of fsa_jax. Registrations only: nothing is read or downloaded on import."""

import seqio

from fsa_jax.data.tasks import add_fsa, add_teacher_text

add_teacher_text("fsa_analysis", "analysis")
add_teacher_text("fsa_rewriting", "rewriting")
# One of each: the paper asks both prompts about every review.
seqio.MixtureRegistry.add("fsa_distill", ["fsa_analysis", "fsa_rewriting"], default_rate=1.0)

add_fsa("fsa_atsa_rest14", "atsa/rest14")
add_fsa("fsa_atsa_laptop14", "atsa/laptop14")
add_fsa("fsa_acsa_rest16", "acsa/rest16")
add_fsa("fsa_acsa_laptop16", "acsa/laptop16")
seqio.MixtureRegistry.add(
    "fsa_benchmark",
    ["fsa_atsa_rest14", "fsa_atsa_laptop14", "fsa_acsa_rest16", "fsa_acsa_laptop16"],
    default_rate=seqio.mixing_rate_num_examples,
)
