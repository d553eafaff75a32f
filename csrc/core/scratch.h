// Scratch memory of one thread: kept from call to call, because fresh pages cost more than the work done in them.
#pragma once
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <new>

#include "core/pages.h"

#if defined(FOCUS_SANITIZE_ADDRESS)
#include <sanitizer/asan_interface.h>

#include <cstring>
#endif

namespace focus {

#if defined(FOCUS_SANITIZE_ADDRESS)
// The address sanitizer sees one block: close to it what no array was given, and put in numbers that no result
// survives.
constexpr size_t kRedZone = 64;
inline void close_scratch(char* begin, char* end) { ASAN_POISON_MEMORY_REGION(begin, end - begin); }
inline void open_scratch(char* begin, char* end) {
  ASAN_UNPOISON_MEMORY_REGION(begin, end - begin);
  std::memset(begin, 0x7F, end - begin);
}
#else
constexpr size_t kRedZone = 0;
inline void close_scratch(char*, char*) {}
inline void open_scratch(char*, char*) {}
#endif

class Scratch {
 public:
  // The calling thread's block, at least `bytes` long, 64-byte aligned, contents undefined. One user at a time.
  static char* get(size_t bytes) {
    thread_local Scratch s;
    if (s.data_ == nullptr || s.size_ < bytes) {
      std::free(s.data_);
      s.size_ = 0;
      size_t rounded = (bytes + (size_t{1} << 16)) & ~size_t{63};
      s.data_ = static_cast<char*>(std::aligned_alloc(64, rounded));
      if (s.data_ == nullptr) throw std::bad_alloc();
      s.size_ = rounded;
      expect_large_pages(s.data_, static_cast<int64_t>(rounded));
    }
    open_scratch(s.data_, s.data_ + s.size_);
    close_scratch(s.data_ + bytes, s.data_ + s.size_);
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
    const size_t bytes = static_cast<size_t>(count) * sizeof(T);
    used_ += ((bytes + 63) & ~size_t{63}) + kRedZone;
    if (at != nullptr) close_scratch(at + bytes, block_ + used_);
    return reinterpret_cast<T*>(at);
  }
  size_t used() const { return used_; }

 private:
  char* block_;
  size_t used_ = 0;
};

}  // namespace focus
