"""What to run: pretrain, finetune, eval, infer."""
