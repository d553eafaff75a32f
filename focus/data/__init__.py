"""Photos and synthetic faces as batches for training and evaluation."""
