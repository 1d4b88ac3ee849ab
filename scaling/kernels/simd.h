// Vectors of the machine that compiles this, by the vector extensions of GCC and Clang: one source for AVX2, AVX-512,
// NEON. And a small product of matrices that lives in registers, which the kernels are made of.
#pragma once
#include <algorithm>
#include <cstdint>
#include <cstring>
#include <thread>
#include <vector>

#if defined(__AVX512F__)
constexpr int W = 16;
#elif defined(__AVX__)
constexpr int W = 8;
#else
constexpr int W = 4;
#endif
constexpr int WIDE = 2 * W;
constexpr float LOG2E = 1.44269504088896340736f;
typedef float vec __attribute__((vector_size(W * 4)));
typedef int32_t ivec __attribute__((vector_size(W * 4)));

inline vec load(const float* p) {
    vec v;
    std::memcpy(&v, p, sizeof v);
    return v;
}
inline void store(float* p, vec v) { std::memcpy(p, &v, sizeof v); }
inline vec splat(float x) { return x - vec{}; }  // x + 0 would cost an addition, as it is not x for -0
inline vec least(vec a, vec b) { return a < b ? a : b; }
inline vec most(vec a, vec b) { return a > b ? a : b; }
inline float sum(vec v) {
    float s = 0;
    for (int i = 0; i < W; i++) s += v[i];
    return s;
}

inline float dot(const float* a, const float* b, int64_t n) {  // n a multiple of W
    vec total = {};
    for (int64_t k = 0; k < n; k += W) total += load(a + k) * load(b + k);
    return sum(total);
}

// 2^x, clamped to 2^-126 and 2^126; relative error 2e-7 (polynomial of degree 6 on [-1/2, 1/2]).
inline vec exp2(vec x) {
    x = least(splat(126.f), most(splat(-126.f), x));  // in this order a NaN stays one
    const vec magic = splat(12582912.f);              // 1.5 * 2^23: what is added to it is rounded to a whole number
    const vec shifted = x + magic;
    const vec f = x - (shifted - magic);
    vec p = splat(1.535336188319500e-4f);
    p = p * f + 1.339887440266574e-3f;
    p = p * f + 9.618437357674640e-3f;
    p = p * f + 5.550332471162809e-2f;
    p = p * f + 2.402264791363012e-1f;
    p = p * f + 6.931472028550421e-1f;
    p = p * f + 1.f;
    ivec n, bits;
    std::memcpy(&n, &shifted, sizeof n);
    std::memcpy(&bits, &p, sizeof bits);
    bits += n << 23;  // the magic number's own bits fall off the top
    std::memcpy(&p, &bits, sizeof p);
    return p;
}

// c (ROWS, N vectors) += sum over k < depth of a[i * stride + k * step] * b[k * ldb + j]
template <int ROWS, int N>
__attribute__((always_inline)) inline void multiply(vec (&c)[ROWS][N], const float* a, int64_t stride, int64_t step,
                                                    const float* b, int64_t ldb, int depth) {
    for (int k = 0; k < depth; k++, a += step, b += ldb) {
        vec row[N];
        for (int j = 0; j < N; j++) row[j] = load(b + j * W);
        for (int i = 0; i < ROWS; i++) {
            const vec x = splat(a[i * stride]);
            for (int j = 0; j < N; j++) c[i][j] += x * row[j];
        }
    }
}

template <int ROWS, int N>
inline void load_tile(vec (&c)[ROWS][N], const float* from, int64_t ld) {
    for (int i = 0; i < ROWS; i++)
        for (int j = 0; j < N; j++) c[i][j] = load(from + i * ld + j * W);
}
template <int ROWS, int N>
inline void store_tile(float* to, int64_t ld, const vec (&c)[ROWS][N]) {
    for (int i = 0; i < ROWS; i++)
        for (int j = 0; j < N; j++) store(to + i * ld + j * W, c[i][j]);
}

// f<rows, N>(...) and f<rows, wide ? 2 : 1>(...): 6 x 2 vectors of sums are what the 16 registers of AVX2 hold.
constexpr int ROWS_MAX = 6;
#define BY_ROWS(rows, N, f, ...)             \
    switch (rows) {                          \
        case 1: f<1, N>(__VA_ARGS__); break; \
        case 2: f<2, N>(__VA_ARGS__); break; \
        case 3: f<3, N>(__VA_ARGS__); break; \
        case 4: f<4, N>(__VA_ARGS__); break; \
        case 5: f<5, N>(__VA_ARGS__); break; \
        default: f<6, N>(__VA_ARGS__);       \
    }
#define BY_TILE(rows, wide, f, ...)                   \
    do {                                              \
        if (wide) BY_ROWS(rows, 2, f, __VA_ARGS__)    \
        else BY_ROWS(rows, 1, f, __VA_ARGS__)         \
    } while (0)

// f(part, first, last) for `threads` even parts of 0..n, each on a thread of its own
template <typename F>
void in_parts(int threads, int64_t n, F f) {
    std::vector<std::thread> others;
    for (int part = 1; part < threads; part++)
        others.emplace_back([=] { f(part, n * part / threads, n * (part + 1) / threads); });
    f(0, int64_t(0), n / threads);
    for (auto& other : others) other.join();
}
