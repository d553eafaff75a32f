"""One room per op: op.py (public function), ref.py (the definition), native.py (C++ and CUDA)."""
