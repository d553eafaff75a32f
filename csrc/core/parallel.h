// The one door to threads. Results do not depend on their number: a sum is taken within one chunk, which is an image,
// and finer cuts (stripes of few images) only take minima or write pixels.
//
// OpenMP is the engine: torch's CPU wheels carry libgomp, and an extension that is loaded after torch shares its pool
// and does not oversubscribe the cores. One thread never enters OpenMP, so a forked child (a data loader) cannot hang
// in it. FOCUS_THREADS=std builds the same door on std::thread, which ThreadSanitizer understands.
#pragma once
#include <algorithm>
#include <cstdint>
#include <exception>

#if defined(_OPENMP)
#include <omp.h>
#define FOCUS_THREADS_NAME "openmp"
#else
#include <atomic>
#include <mutex>
#include <thread>
#include <vector>
#define FOCUS_THREADS_NAME "std::thread"
#endif

namespace focus {

// Calls body(i) for i in [0, n), on at most `threads` threads, in no particular order. The first exception is rethrown.
template <class Body>
void parallel_for(int64_t n, int threads, const Body& body) {
  threads = static_cast<int>(std::min<int64_t>(n, std::max(threads, 1)));
  if (threads <= 1) {
    for (int64_t i = 0; i < n; ++i) body(i);
    return;
  }
  std::exception_ptr error;
#if defined(_OPENMP)
#pragma omp parallel for num_threads(threads) schedule(dynamic, 1)
  for (int64_t i = 0; i < n; ++i) {
    try {
      body(i);
    } catch (...) {
#pragma omp critical(focus_parallel_error)
      if (!error) error = std::current_exception();
    }
  }
#else
  std::mutex guard;
#if defined(FOCUS_SANITIZE_THREAD)
  // Neighbours always on different threads, and nothing that orders them: no race hides behind a quick thread.
  auto work = [&](int64_t k) {
    for (int64_t i = k; i < n; i += threads) {
#else
  std::atomic<int64_t> next{0};
  auto work = [&](int64_t) {
    for (int64_t i; (i = next.fetch_add(1, std::memory_order_relaxed)) < n;) {
#endif
      try {
        body(i);
      } catch (...) {
        std::lock_guard<std::mutex> lock(guard);
        if (!error) error = std::current_exception();
      }
    }
  };
  std::vector<std::thread> pool;
  pool.reserve(threads - 1);
  for (int k = 1; k < threads; ++k) pool.emplace_back(work, k);
  work(0);
  for (std::thread& t : pool) t.join();
#endif
  if (error) std::rethrow_exception(error);
}

}  // namespace focus
