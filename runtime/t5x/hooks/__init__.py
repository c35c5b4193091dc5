"""What happens around the steps of a training: metrics, checkpoints, evaluations, progress, and stopping early."""
