"""Training of FOCUS in three stages."""
