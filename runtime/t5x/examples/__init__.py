"""Example models: their networks are the student's (fsa_base.networks.t5), under the names that T5X's gin files use."""
