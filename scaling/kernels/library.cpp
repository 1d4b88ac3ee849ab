// What the library says of itself.
#include "simd.h"

// Rows must be a multiple of this many numbers.
extern "C" int vector_width() { return W; }
