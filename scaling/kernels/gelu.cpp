// Exact GELU of x + bias and its slope in one pass: y = x Phi(x), slope = Phi(x) + x phi(x).
#include "simd.h"

namespace {

// erf by Abramowitz & Stegun 7.1.26 (absolute error 1.5e-7), whose exponential is that of phi
inline void gelu_of(vec x, float* y, float* slope) {
    const vec t = 1.f / (1.f + (x < 0.f ? -x : x) * 0.2316418882f);  // 0.3275911 / sqrt(2)
    const vec e = exp2(x * x * (-0.5f * LOG2E));
    vec tail = splat(0.5307027145f);
    tail = tail * t - 0.7265760135f;
    tail = tail * t + 0.7107068705f;
    tail = tail * t - 0.142248368f;
    tail = tail * t + 0.127414796f;
    tail *= t * e;
    const vec cdf = x < 0.f ? tail : 1.f - tail;
    store(y, x * cdf);
    if (slope) store(slope, cdf + x * e * 0.39894228040143267794f);  // 1 / sqrt(2 pi)
}

}  // namespace

// x (n, width), bias (width) -> y (n, width), and unless null slope (n, width), which may be x. Width a multiple of W.
extern "C" void gelu(const float* x, const float* bias, int64_t n, int64_t width, int threads, float* y, float* slope) {
    in_parts(threads, n, [=](int, int64_t from, int64_t to) {
        for (int64_t row = from * width; row < to * width; row += width)
            for (int64_t k = 0; k < width; k += W)
                gelu_of(load(x + row + k) + load(bias + k), y + row + k, slope ? slope + row + k : nullptr);
    });
}
