"""What the GPU kit (benchmarks/gpu_kit.py) runs on a machine with a GPU.

``run`` runs the slices, in order of their worth, each in a process of its own with a limit of time. The modules that
``run.SLICES`` names are those processes; they write their rows as they measure (``rows``). ``tables`` turns rows into
Markdown.
"""
