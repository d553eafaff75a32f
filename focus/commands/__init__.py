"""The commands of `focus`, one module each; `focus.cli` registers them."""
