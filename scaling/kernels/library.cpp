// What the library says of itself, and asks of the process.
#include "simd.h"

#ifdef __GLIBC__
#include <malloc.h>

// A step's tensors of megabytes come back to pages that are there already.
extern "C" void keep_freed_memory() {
    mallopt(M_MMAP_THRESHOLD, 1 << 30);
    mallopt(M_TRIM_THRESHOLD, 1 << 30);
}
#else
extern "C" void keep_freed_memory() {}
#endif

// Rows must be a multiple of this many numbers.
extern "C" int vector_width() { return W; }
