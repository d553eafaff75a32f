// Scratch memory of one thread: kept from call to call, because fresh pages cost more than the work done in them.
#pragma once
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <new>

#include "core/pages.h"

namespace focus {

class Scratch {
 public:
  // The calling thread's block, at least `bytes` long, 64-byte aligned, contents undefined. One user at a time.
  static char* get(size_t bytes) {
    thread_local Scratch s;
    if (s.size_ < bytes) {
      std::free(s.data_);
      s.size_ = 0;
      size_t rounded = (bytes + (size_t{1} << 16)) & ~size_t{63};
      s.data_ = static_cast<char*>(std::aligned_alloc(64, rounded));
      if (s.data_ == nullptr) throw std::bad_alloc();
      s.size_ = rounded;
      expect_large_pages(s.data_, static_cast<int64_t>(rounded));
    }
    return s.data_;
  }

 private:
  ~Scratch() { std::free(data_); }
  char* data_ = nullptr;
  size_t size_ = 0;
};

// Cuts a block into aligned arrays: first with a null block to add up the size, then for real.
class Carve {
 public:
  explicit Carve(char* block) : block_(block) {}
  template <class T>
  T* take(int64_t count) {
    char* at = block_ == nullptr ? nullptr : block_ + used_;
    used_ += (static_cast<size_t>(count) * sizeof(T) + 63) & ~size_t{63};
    return reinterpret_cast<T*>(at);
  }
  size_t used() const { return used_; }

 private:
  char* block_;
  size_t used_ = 0;
};

}  // namespace focus
