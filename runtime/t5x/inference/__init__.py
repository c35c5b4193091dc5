"""Running a trained model over datasets: predictions, scores, metrics of tasks, and the files they are written to."""
