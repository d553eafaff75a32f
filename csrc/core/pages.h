// Fresh memory costs a page fault each 4 KiB, which for the outputs of a batch is a quarter of the forward's time: ask
// for large pages where the system gives them on request. Advice only; nothing depends on it.
#pragma once
#include <cstddef>
#include <cstdint>

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace focus {

template <class T>
void expect_large_pages(const T* data, int64_t count) {
#if defined(__linux__) && defined(MADV_HUGEPAGE)
  constexpr uintptr_t kPage = uintptr_t{1} << 21;
  const uintptr_t begin = (reinterpret_cast<uintptr_t>(data) + kPage - 1) & ~(kPage - 1);
  const uintptr_t end = (reinterpret_cast<uintptr_t>(data) + sizeof(T) * static_cast<size_t>(count)) & ~(kPage - 1);
  if (data != nullptr && end > begin + kPage) madvise(reinterpret_cast<void*>(begin), end - begin, MADV_HUGEPAGE);
#else
  (void)data;
  (void)count;
#endif
}

}  // namespace focus
