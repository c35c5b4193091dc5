"""``--run_mode=precompile``: the step of a training run compiled, described, kept for the run, and nothing trained."""

from __future__ import annotations

import tiny_run


def test_precompile_prints_the_memory_and_training_reuses_the_compiled_step(tmp_path):
    cache = tmp_path / "cache"
    arguments = tiny_run.train_arguments(tmp_path / "run", 2, f"--compilation_cache={cache}")
    process = tiny_run.command("t5x.main", "--run_mode=precompile", *arguments, stdout=-1, devices=2)
    output, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    assert "parameters on a mesh of 2 data, 1 model; the step takes" in output and "GiB a device" in output
    written = sorted(path.name for path in (tmp_path / "run").iterdir())
    assert written == ["lowered_hlo_post_optimization", "lowered_hlo_pre_optimization"]
    assert all((tmp_path / "run" / name).read_text().startswith("HloModule") for name in written)

    steps = sorted(cache.rglob("jit_train_function-*-cache"))
    assert len(steps) == 1
    process = tiny_run.command("t5x.main", "--run_mode=train", *arguments, devices=2)
    errors = process.communicate(timeout=300)[1]
    assert process.returncode == 0, errors
    assert sorted(cache.rglob("jit_train_function-*-cache")) == steps


def test_export_is_an_error_that_names_the_commands_for_it():
    process = tiny_run.command("t5x.main", "--run_mode=export")
    errors = process.communicate(timeout=300)[1]
    assert process.returncode == 2
    assert (
        "--run_mode: expected 'train' or 'eval' or 'infer' or 'precompile', found 'export'" in errors
        and "fsa export-hf" in errors
    )
