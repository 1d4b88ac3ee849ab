// Memory that is freed stays with the process: a step's tensors of megabytes come back to pages that are there already.
#include <cstdlib>

#ifdef __GLIBC__
#include <malloc.h>

extern "C" void keep_freed_memory() {
    mallopt(M_MMAP_THRESHOLD, 1 << 30);
    mallopt(M_TRIM_THRESHOLD, 1 << 30);
}
#else
extern "C" void keep_freed_memory() {}
#endif
