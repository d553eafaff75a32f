// A stack of its own to run on, and switching between such stacks: by the compiler's setjmp and longjmp, which make no
// system calls and are not the ones at which AddressSanitizer clears all of a stack; ucontext only starts them.
// AddressSanitizer is told of every switch.
#pragma once
#include <pthread.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>

#include <cstddef>
#include <new>

#if defined(__SANITIZE_ADDRESS__)
#define FOCUS_FIBERS_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define FOCUS_FIBERS_ASAN 1
#endif
#endif
#ifdef FOCUS_FIBERS_ASAN
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

namespace cuda_emulation {

// The memory of all stacks: one range, so that "is it on a stack" is one comparison.
class StackMemory {
 public:
  static constexpr size_t kBytes = size_t{1} << 18, kCount = 1024 + 1;  // of one stack; of stacks: a block and a spare

  StackMemory() {
    data_ = static_cast<char*>(
        mmap(nullptr, kBytes * kCount, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
    if (data_ == MAP_FAILED) throw std::bad_alloc();
  }
  // The lowest page stays out of reach: a stack that overflows is a crash, not another thread's data.
  char* take(size_t i) {
    const size_t page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
    char* stack = data_ + kBytes * i;
    if (i >= kCount || mprotect(stack + page, kBytes - page, PROT_READ | PROT_WRITE) != 0) throw std::bad_alloc();
    return stack;
  }
  char* begin() const { return data_; }
  char* end() const { return data_ + kBytes * kCount; }

 private:
  char* data_;
};

class Fiber {
 public:
  Fiber() = default;  // the caller's own stack
  Fiber(const Fiber&) = delete;
  Fiber& operator=(const Fiber&) = delete;

  // Gets `stack` and runs entry() when first switched to. entry calls arrived() first, and never returns.
  void start(char* stack, void (*entry)()) {
    stack_ = stack;
    size_ = StackMemory::kBytes;
    getcontext(&context_);
    context_.uc_stack.ss_sp = stack_;
    context_.uc_stack.ss_size = size_;
    context_.uc_link = nullptr;
    makecontext(&context_, entry, 0);
    started_ = false;
  }

  // Where the caller's own stack lies.
  void on_thread_stack() {
    pthread_attr_t attributes;
    void* bottom = nullptr;
    if (pthread_getattr_np(pthread_self(), &attributes) != 0) throw std::bad_alloc();
    pthread_attr_getstack(&attributes, &bottom, &size_);
    pthread_attr_destroy(&attributes);
    stack_ = static_cast<char*>(bottom);
  }

  __attribute__((noinline, no_sanitize_address)) static void switch_to(Fiber& from, Fiber& to) {
#ifdef FOCUS_FIBERS_ASAN
    __sanitizer_start_switch_fiber(&from.fake_, to.stack_, to.size_);
#endif
    if (__builtin_setjmp(from.jump_) == 0) {
      if (to.started_) to.jump();
      to.started_ = true;
      setcontext(&to.context_);
    }
    from.arrived();
  }

  void arrived() {
#ifdef FOCUS_FIBERS_ASAN
    __sanitizer_finish_switch_fiber(fake_, nullptr, nullptr);
#endif
  }

  // What was left on the stack is nobody's: for a fiber that will not go on.
  void forget() {
#ifdef FOCUS_FIBERS_ASAN
    const size_t page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
    __asan_unpoison_memory_region(stack_ + page, size_ - page);
#endif
  }

  const char* stack() const { return stack_; }
  size_t size() const { return size_; }

 private:
  // Not in the function of the setjmp, which compilers refuse.
  [[noreturn]] __attribute__((noinline, no_sanitize_address)) void jump() { __builtin_longjmp(jump_, 1); }

  char* stack_ = nullptr;
  size_t size_ = 0;
  bool started_ = true;
  ucontext_t context_;
  void* jump_[5];
#ifdef FOCUS_FIBERS_ASAN
  void* fake_ = nullptr;
#endif
};

}  // namespace cuda_emulation
