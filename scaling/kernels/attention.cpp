// Causal attention of short sequences, forward and backward, read from and written to the projection's own layout.
//
// A head's scores (T, T) stay in the L2 cache; only what lies at or under the diagonal is computed. The backward pass
// takes the scores again, from the sums of exponentials that the forward pass left.
#include <cmath>

#include "simd.h"

namespace {

constexpr int MAX_T = 256;
constexpr int LD = MAX_T + 16;  // no power of two, which would crowd a few sets of the L1 cache

struct Rows {
    const float* at;
    int64_t ld;
    Rows from(int row, int column) const { return {at + row * ld + column, ld}; }
};

int whole(int n) { return (n + WIDE - 1) / WIDE * WIDE; }

// (d, whole(T)) <- (T, d), times scale
void transpose(std::vector<float>& out, Rows x, int T, int d, float scale) {
    out.assign(d * whole(T), 0.f);
    for (int t = 0; t < T; t++)
        for (int k = 0; k < d; k++) out[k * whole(T) + t] = x.at[t * x.ld + k] * scale;
}

template <int ROWS, int N>
void product(float* out, Rows a, const float* b, int ldb, int depth) {
    vec c[ROWS][N] = {};
    multiply(c, a.at, a.ld, 1, b, ldb, depth);
    store_tile(out, LD, c);
}

// out (T, LD), up to the diagonal and a little beyond = a (T, d) by b (d, T)
void triangle(float* out, Rows a, const std::vector<float>& b, int T, int d) {
    for (int t = 0; t < T; t += ROWS_MAX)
        for (int key = 0; key < std::min(t + ROWS_MAX, T); key += WIDE)
            BY_TILE(std::min(ROWS_MAX, T - t), true, product, out + t * LD + key, a.from(t, 0), b.data() + key, whole(T), d);
}

template <int ROWS, int N>
void mixture(float* out, int64_t ld, const float* a, int64_t stride, int64_t step, Rows b, int depth, const float* scale) {
    vec c[ROWS][N] = {};
    multiply(c, a, stride, step, b.at, b.ld, depth);
    for (int i = 0; i < ROWS; i++)
        for (int j = 0; j < N; j++) c[i][j] *= splat(scale[i]);
    store_tile(out, ld, c);
}

// out (T, d) = a (T, LD), zero above its diagonal, by b (T, d); row t times scale[t]
void mix(float* out, int64_t ld, const float* a, Rows b, int T, int d, const float* scale) {
    for (int t = 0; t < T; t += ROWS_MAX)
        for (int k = 0; k < d; k += WIDE)
            BY_TILE(std::min(ROWS_MAX, T - t), k + WIDE <= d, mixture, out + t * ld + k, ld, a + t * LD, LD, 1,
                    b.from(0, k), std::min(t + ROWS_MAX, T), scale + t);
}

// the same by a's transpose
void mix_back(float* out, int64_t ld, const float* a, Rows b, int T, int d, const float* scale) {
    for (int t = 0; t < T; t += ROWS_MAX)
        for (int k = 0; k < d; k += WIDE)
            BY_TILE(std::min(ROWS_MAX, T - t), k + WIDE <= d, mixture, out + t * ld + k, ld, a + t * LD + t, 1, LD,
                    b.from(t, k), T - t, scale + t);
}

// Row t of scores, up to where its tile's products read: how many columns that is.
int columns(int t, int T) { return whole(std::min(t - t % ROWS_MAX + ROWS_MAX, T)); }

struct Space {  // of one thread
    std::vector<float> keys, values, p, ds, scale;
    Space() : p((MAX_T + ROWS_MAX) * LD), ds((MAX_T + ROWS_MAX) * LD), scale(MAX_T) {}
};

void forward(Rows q, Rows k, Rows v, float* out, int64_t ld, float* lse, int T, int d, Space& s) {
    transpose(s.keys, k, T, d, LOG2E / std::sqrt(float(d)));
    triangle(s.p.data(), q, s.keys, T, d);
    for (int t = 0; t < T; t++) {
        float* row = s.p.data() + t * LD;
        const int n = columns(t, T);
        std::fill(row + t + 1, row + n, -INFINITY);
        vec top = load(row), total = {};
        for (int i = W; i < n; i += W) top = most(load(row + i), top);
        float highest = top[0];
        for (int i = 1; i < W; i++) highest = std::max(highest, top[i]);
        for (int i = 0; i < n; i += W) store(row + i, exp2(load(row + i) - highest));
        std::fill(row + t + 1, row + n, 0.f);
        for (int i = 0; i < n; i += W) total += load(row + i);
        s.scale[t] = 1 / sum(total);
        lse[t] = highest + std::log2(sum(total));
    }
    mix(out, ld, s.p.data(), v, T, d, s.scale.data());
}

void backward(Rows q, Rows k, Rows v, Rows o, Rows d_o, const float* lse, float* dq, float* dk, float* dv, int T, int d,
              Space& s) {
    const float root = 1 / std::sqrt(float(d));
    transpose(s.keys, k, T, d, LOG2E * root);
    transpose(s.values, v, T, d, 1.f);
    triangle(s.p.data(), q, s.keys, T, d);
    triangle(s.ds.data(), d_o, s.values, T, d);
    for (int t = 0; t < T; t++) {
        float *p = s.p.data() + t * LD, *ds = s.ds.data() + t * LD;
        const int n = columns(t, T);
        const float mean = dot(d_o.at + t * d_o.ld, o.at + t * o.ld, d);
        for (int i = 0; i < n; i += W) {
            const vec e = exp2(load(p + i) - lse[t]);
            store(p + i, e);
            store(ds + i, e * (load(ds + i) - mean));
        }
        std::fill(p + t + 1, p + n, 0.f);
        std::fill(ds + t + 1, ds + n, 0.f);
    }
    std::fill_n(s.scale.data(), T, root);
    mix(dq, q.ld, s.ds.data(), k, T, d, s.scale.data());
    mix_back(dk, k.ld, s.ds.data(), q, T, d, s.scale.data());
    std::fill_n(s.scale.data(), T, 1.f);
    mix_back(dv, v.ld, s.p.data(), d_o, T, d, s.scale.data());
}

}  // namespace

extern "C" int attention_max_t() { return MAX_T; }

// qkv (B, T, 3, H, d) -> out (B, T, H, d), lse (B, H, T): log2 of the sums of exponentials. d a multiple of W.
extern "C" void attention(const float* qkv, int64_t B, int64_t T, int64_t H, int64_t d, int threads, float* out, float* lse) {
    const int64_t D = H * d, ld = 3 * D;
    in_parts(threads, B * H, [=](int, int64_t from, int64_t to) {
        Space space;
        for (int64_t i = from; i < to; i++) {
            const float* q = qkv + i / H * T * ld + i % H * d;
            forward({q, ld}, {q + D, ld}, {q + 2 * D, ld}, out + i / H * T * D + i % H * d, D, lse + i * T, T, d, space);
        }
    });
}

// d_out (B, T, H, d) -> d_qkv (B, T, 3, H, d)
extern "C" void attention_backward(const float* qkv, const float* out, const float* lse, const float* d_out, int64_t B,
                                   int64_t T, int64_t H, int64_t d, int threads, float* d_qkv) {
    const int64_t D = H * d, ld = 3 * D;
    in_parts(threads, B * H, [=](int, int64_t from, int64_t to) {
        Space space;
        for (int64_t i = from; i < to; i++) {
            const int64_t at = i / H * T * ld + i % H * d, at_out = i / H * T * D + i % H * d;
            const float* q = qkv + at;
            float* dq = d_qkv + at;
            backward({q, ld}, {q + D, ld}, {q + 2 * D, ld}, {out + at_out, D}, {d_out + at_out, D}, lse + i * T, dq, dq + D,
                     dq + 2 * D, T, d, space);
        }
    });
}
