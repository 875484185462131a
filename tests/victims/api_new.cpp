// operator new and delete where there is no memory: who is asked, what is thrown, and that it can be caught. Every line printed
// must be the same with and without the shim.
#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <new>
#include <string>
#include <thread>
#include <typeinfo>
#include <vector>

static volatile size_t huge = PTRDIFF_MAX - 4096;
static volatile size_t small = 100;

struct OfHandler {
  int number;
};

static int handler_calls;
static void gives_up() {
  printf("  handler %d\n", ++handler_calls);
  if (handler_calls % 3 == 0) std::set_new_handler(nullptr);
}
static void throws_own() { throw OfHandler{42}; }
static void throws_bad_alloc() { throw std::bad_alloc(); }
static void finds_memory() {
  huge = 1000;  // read again by nobody: the size is the caller's. The second call gives up.
  if (++handler_calls > 1) std::set_new_handler(nullptr);
}

struct InDestructor {
  ~InDestructor() {
    printf("  uncaught in destructor: %d\n", std::uncaught_exceptions());
    try {
      (void)!::operator new(huge);
    } catch (const std::bad_alloc& e) {
      printf("  nested: %s, uncaught: %d\n", e.what(), std::uncaught_exceptions());
    }
  }
};

template <class Call>
static void attempt(const char* name, Call call) {
  errno = 0;
  try {
    void* block = call();
    printf("%s: %s\n", name, block == nullptr ? "null" : "block");
  } catch (const std::bad_alloc& e) {
    printf("%s: %s %s errno=%d\n", name, typeid(e).name(), e.what(), errno);
  } catch (const OfHandler& e) {
    printf("%s: the handler's %d\n", name, e.number);
  }
  printf("  uncaught after: %d\n", std::uncaught_exceptions());
}

#define ATTEMPT(call) attempt(#call, [] { return (void*)(call); })

static void every_form() {
  constexpr std::align_val_t wide{128};
  ATTEMPT(::operator new(huge));
  ATTEMPT(::operator new[](huge));
  ATTEMPT(::operator new(huge, std::nothrow));
  ATTEMPT(::operator new[](huge, std::nothrow));
  ATTEMPT(::operator new(huge, wide));
  ATTEMPT(::operator new[](huge, wide));
  ATTEMPT(::operator new(huge, wide, std::nothrow));
  ATTEMPT(::operator new[](huge, wide, std::nothrow));
}

static void with_handler(const char* name, std::new_handler handler) {
  printf("-- %s\n", name);
  constexpr std::align_val_t wide{128};
  const auto armed = [&](const char* form, auto call) {
    handler_calls = 0;
    std::set_new_handler(handler);
    attempt(form, call);
    std::set_new_handler(nullptr);
  };
  armed("new", [] { return ::operator new(huge); });
  armed("new[]", [] { return ::operator new[](huge); });
  armed("new nothrow", [] { return ::operator new(huge, std::nothrow); });
  armed("new[] nothrow", [] { return ::operator new[](huge, std::nothrow); });
  armed("new aligned", [=] { return ::operator new(huge, wide); });
  armed("new aligned nothrow", [=] { return ::operator new(huge, wide, std::nothrow); });
  armed("new aligned 1 nothrow", [=] { return ::operator new (huge, std::align_val_t{1}, std::nothrow); });
}

static void bad_alignments() {
  printf("-- alignments\n");
  std::set_new_handler([] { printf("  asked\n"), exit(3); });
  for (size_t alignment : {0, 3, 24}) {
    attempt("bad alignment", [=] { return ::operator new(small, std::align_val_t(alignment)); });
    attempt("bad alignment, nothrow", [=] { return ::operator new(small, std::align_val_t(alignment), std::nothrow); });
  }
  std::set_new_handler(nullptr);
  for (size_t alignment = 1; alignment <= 65536; alignment *= 2)
    for (size_t bytes : {0, 1, 24, 1000, 70000}) {
      void* blocks[] = {::operator new(bytes, std::align_val_t(alignment)), ::operator new[](bytes, std::align_val_t(alignment)),
                        ::operator new(bytes, std::align_val_t(alignment), std::nothrow)};
      for (void* block : blocks)
        if (reinterpret_cast<uintptr_t>(block) % alignment != 0) printf("misaligned: %zu %zu\n", alignment, bytes);
      ::operator delete(blocks[0], std::align_val_t(alignment));
      ::operator delete[](blocks[1], bytes, std::align_val_t(alignment));
      ::operator delete(blocks[2], std::align_val_t(alignment), std::nothrow);
    }
}

static void through_the_library() {
  printf("-- library\n");
  attempt("vector", []() -> void* { return new std::vector<char>(huge); });
  attempt("string", []() -> void* { return new std::string(PTRDIFF_MAX - 100, 'x'); });
  attempt("new[] of objects", []() -> void* { return new std::string[1000000000000]; });
  std::thread([] { attempt("thread", [] { return ::operator new(huge); }); }).join();
}

static void deletes() {
  ::operator delete(nullptr);
  ::operator delete[](nullptr);
  ::operator delete(nullptr, small);
  ::operator delete[](nullptr, small);
  ::operator delete(nullptr, std::nothrow);
  ::operator delete[](nullptr, std::nothrow);
  ::operator delete(::operator new(small), small);
  ::operator delete[](::operator new[](small), small);
  ::operator delete(::operator new(0), std::nothrow);
  ::operator delete[](::operator new[](0), std::nothrow);
  errno = EXDEV;
  ::operator delete(::operator new(small));
  printf("delete: errno kept=%d\n", errno == EXDEV);
}

int main() {
  setvbuf(stdout, nullptr, _IONBF, 0);
  every_form();
  with_handler("gives up at the third call", gives_up);
  with_handler("throws its own", throws_own);
  with_handler("throws bad_alloc", throws_bad_alloc);
  with_handler("gives up at the second call", finds_memory);
  huge = PTRDIFF_MAX - 4096;
  bad_alignments();
  through_the_library();
  deletes();
  printf("-- while unwinding\n");
  try {
    InDestructor guard;
    throw OfHandler{1};
  } catch (const OfHandler&) {
    printf("outer caught, uncaught: %d\n", std::uncaught_exceptions());
  }
  return 0;
}
