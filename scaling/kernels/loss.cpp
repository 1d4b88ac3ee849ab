// Mean cross-entropy over a vocabulary, with both gradients, from hidden states and the head's weight.
//
// Tokens go in blocks. Of a block, a chunk of symbols at a time: logits, their exponentials and the product for the
// hidden states' gradient while they are in the L2 cache. Once all symbols are through, the sums are known and the
// head's gradient is taken from the block's exponentials. The one-hot of softmax minus one-hot is a row a token.
#include <cmath>
#include <memory>

#include "simd.h"

namespace {

constexpr int BLOCK = 96;         // tokens: their 4096 exponentials are 1.5 MB, which L3 holds
constexpr int CHUNK = 16 * WIDE;  // symbols
constexpr float SAFE = 1e20f;     // sums of exponentials beyond this, or under its inverse, have lost digits

using Floats = std::unique_ptr<float[]>;
Floats floats(int64_t n) { return Floats(new float[n]); }  // as they are: a vector would write zeros first

struct Head {
    int64_t vocab, padded, d;
    Floats columns;  // (padded / WIDE, d, WIDE), times log2(e)
    Floats rows;     // (d / WIDE, padded, WIDE), the last one narrower where d is no multiple

    Head(const float* weight, int64_t vocab, int64_t d, bool gradients)
        : vocab(vocab), padded((vocab + WIDE - 1) / WIDE * WIDE), d(d), columns(floats(padded * d)), rows(floats(gradients ? padded * d : 0)) {
        std::fill(columns.get() + (padded - WIDE) * d, columns.get() + padded * d, 0.f);
        for (int64_t v = 0; v < vocab; v++) {
            float* out = columns.get() + v / WIDE * WIDE * d + v % WIDE;
            for (int64_t k = 0; k < d; k++) out[k * WIDE] = weight[v * d + k] * LOG2E;
        }
        if (gradients)
            for (int64_t k = 0; k < d; k += WIDE) {
                const int64_t width = std::min<int64_t>(WIDE, d - k);
                for (int64_t v = 0; v < vocab; v++)
                    std::copy_n(weight + v * d + k, width, rows.get() + k * padded + v * width);
                std::fill_n(rows.get() + k * padded + vocab * width, (padded - vocab) * width, 0.f);
            }
    }
};

// Exponentials of ROWS tokens by WIDE symbols, added to the tokens' sums.
template <int ROWS, int N>
void exponentials(float* out, float* sums, const float* hidden, const float* columns, int d, int valid) {
    vec c[ROWS][N] = {};
    multiply(c, hidden, 1, ROWS_MAX, columns, WIDE, d);
    for (int i = 0; i < ROWS; i++) {
        vec total = load(sums + i * W);
        for (int j = 0; j < N; j++) {
            vec e = exp2(c[i][j]);
            for (int l = 0; l < W && valid < WIDE; l++) e[l] = j * W + l < valid ? e[l] : 0;
            store(out + i * WIDE + j * W, e);
            total += e;
        }
        store(sums + i * W, total);
    }
}

// ROWS tokens' gradient, by N W of their states, from the symbols of panels e .. e + panels
template <int ROWS, int N>
void to_hidden(float* out, int64_t ld, const float* e, int64_t panel, int panels, const float* rows) {
    vec c[ROWS][N];
    load_tile(c, out, ld);
    for (int p = 0; p < panels; p++) multiply(c, e + p * panel, WIDE, 1, rows + p * WIDE * N * W, N * W, WIDE);
    store_tile(out, ld, c);
}

// ROWS symbols' gradient, by N W of their weights, from the tokens of a block
template <int ROWS, int N>
void to_head(float* out, int64_t ld, const float* e, const float* weighted, int tokens) {
    vec c[ROWS][N];
    load_tile(c, out, ld);
    multiply(c, e, 1, WIDE, weighted, N * W, tokens);
    store_tile(out, ld, c);
}

// Losses of some tokens, and their part of the gradients. False if a sum has left the safe range.
bool some_tokens(const float* hidden, const float* weight, const Head& head, const int64_t* targets, int64_t n,
                 int64_t of, float* loss, float* d_hidden, float* d_head) {
    const int64_t d = head.d, vocab = head.vocab;
    const Floats e = floats(head.padded * BLOCK), sums = floats(BLOCK * W), weighted = floats(BLOCK * d), states = floats(BLOCK * d);
    bool safe = true;
    for (int64_t first = 0; first < n; first += BLOCK) {
        const int tokens = std::min<int64_t>(BLOCK, n - first);
        const int64_t panel = tokens * WIDE;  // floats of e that WIDE symbols have
        for (int t = 0; t < tokens; t++)      // (tokens / 6, d, 6)
            for (int64_t k = 0; k < d; k++)
                states[(t - t % ROWS_MAX) * d + k * ROWS_MAX + t % ROWS_MAX] = hidden[(first + t) * d + k];
        std::fill_n(sums.get(), BLOCK * W, 0.f);

        for (int64_t from = 0; from < head.padded; from += CHUNK) {
            const int64_t to = std::min(from + CHUNK, head.padded);
            for (int64_t v = from; v < to; v += WIDE)
                for (int t = 0; t < tokens; t += ROWS_MAX)
                    BY_TILE(std::min(ROWS_MAX, tokens - t), true, exponentials, e.get() + v * tokens + t * WIDE,
                            sums.get() + t * W, states.get() + t * d, head.columns.get() + v * d, d,
                            std::min<int64_t>(WIDE, vocab - v));
            for (int64_t k = 0; d_hidden && k < d; k += WIDE)
                for (int t = 0; t < tokens; t += ROWS_MAX)
                    BY_TILE(std::min(ROWS_MAX, tokens - t), k + WIDE <= d, to_hidden, d_hidden + (first + t) * d + k, d,
                            e.get() + from * tokens + t * WIDE, panel, (to - from) / WIDE,
                            head.rows.get() + k * head.padded + from * std::min<int64_t>(WIDE, d - k));
        }

        for (int t = 0; t < tokens; t++) {
            const float* x = hidden + (first + t) * d;
            const float* w = weight + targets[first + t] * d;
            const float total = sum(load(sums.get() + t * W));
            safe &= total > 1 / SAFE && total < SAFE;
            loss[first + t] = std::log(total) - dot(x, w, d);
            if (!d_hidden) continue;
            const float one = 1.f / of, scale = one / total;
            float* dx = d_hidden + (first + t) * d;
            float* dw = d_head + targets[first + t] * d;
            for (int64_t k = 0; k < d; k++) {
                const int64_t left = k - k % WIDE;
                weighted[left * tokens + t * std::min<int64_t>(WIDE, d - left) + k - left] = x[k] * scale;
                dx[k] = dx[k] * scale - w[k] * one;
                dw[k] -= x[k] * one;
            }
        }

        for (int64_t v = 0; d_hidden && v < vocab;) {
            const int ahead = WIDE - v % WIDE;  // a panel of 16 goes by 6, 5 and 5
            const int rows = std::min<int64_t>(ahead % ROWS_MAX && ahead < 2 * ROWS_MAX ? (ahead + 1) / 2 : ROWS_MAX, vocab - v);
            for (int64_t k = 0; k < d; k += WIDE)
                BY_TILE(std::min(rows, ahead), k + WIDE <= d, to_head, d_head + v * d + k, d,
                        e.get() + (v - v % WIDE) * tokens + v % WIDE, weighted.get() + k * tokens, tokens);
            v += std::min(rows, ahead);
        }
    }
    return safe;
}

}  // namespace

// hidden (n, d), weight (vocab, d), targets (n) -> loss (n), and unless null d_hidden (n, d), d_head (vocab, d), of the
// mean. d must be a multiple of W. Returns 1, with results that are not to be used, where logits or targets are out of
// range.
extern "C" int head_loss(const float* hidden, const float* weight, const int64_t* targets, int64_t n, int64_t vocab,
                         int64_t d, int threads, float* loss, float* d_hidden, float* d_head) {
    if (std::any_of(targets, targets + n, [=](int64_t target) { return target < 0 || target >= vocab; })) return 1;
    const Head head(weight, vocab, d, d_hidden);
    std::vector<float> partial(d_hidden ? (threads - 1) * vocab * d : 0);
    if (d_hidden) std::fill_n(d_hidden, n * d, 0.f), std::fill_n(d_head, vocab * d, 0.f);
    std::vector<char> safe(threads);
    in_parts(threads, n, [&](int part, int64_t from, int64_t to) {
        float* own = part ? partial.data() + (part - 1) * vocab * d : d_head;
        safe[part] = some_tokens(hidden + from * d, weight, head, targets + from, to - from, n, loss + from,
                                 d_hidden ? d_hidden + from * d : nullptr, own);
    });
    for (size_t part = 0; part < partial.size(); part += vocab * d)
        for (int64_t i = 0; i < vocab * d; i++) d_head[i] += partial[part + i];
    return std::count(safe.begin(), safe.end(), 1) != threads;
}
